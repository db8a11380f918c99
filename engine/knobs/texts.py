"""What every knob does to memory, speed and accuracy, and why, in two or three sentences. Standard library only."""

from __future__ import annotations

from engine.contract.knob import ANSWER
from engine.knobs.answering_texts import ANSWERING_TEXTS, IN_ANSWERING

KNOB_TEXTS: dict[str, str] = {
    "job": (
        "A model is made fast to train, or to answer. Training keeps activations for backward, gradients and the "
        "optimizer's states; answering keeps weights and the keys and values of what was read and written, and is "
        "measured by how soon the first token comes, and how fast the others follow."
    ),
    "model": (
        "In fp32 AdamW every parameter takes 16 bytes: weight, gradient and two optimizer states of 4 bytes each, "
        "whatever the batch. Activations grow with layers × hidden size. A larger model needs more operations per "
        "sample, so samples/s fall about in proportion to its parameters."
    ),
    "workload": (
        "dummy trains on random tokens: its cost is real, its loss means nothing. The others have something to learn, "
        "so loss and accuracy can be compared: reviews are texts with a class, text is running text (or pairs, for a "
        "seq2seq model), instructions are questions with answers. Where texts are shorter than the sequence length, "
        "padding decides how much is computed."
    ),
    "data": (
        "Where the samples come from. Memory depends only on how long they are; what is learned, and so loss and "
        "accuracy, can be compared between runs on the same data only."
    ),
    "text_column": (
        "Which column of the data is read as text: of pairs the source, of instructions the messages or the prompt. "
        "Longer texts take more memory and time per batch."
    ),
    "label_column": "Which column of the data holds the class to learn. It changes what accuracy means, not the cost.",
    "target_column": (
        "Which column of the data the model learns to write: a pair's target, a prompt's completion. It is not read "
        "where the data has messages."
    ),
    "completion_only_loss": (
        "Instructions are learned by the tokens of their answers alone, in every turn: what people ask is read, not "
        "imitated (TRL's completion_only_loss and assistant_only_loss). It changes what the loss means, hardly its "
        "cost. Off learns every token."
    ),
    "task": (
        "A classifier's head is small. A language model's head gives a score to every word at every token: a tensor of "
        "batch × length × vocabulary, kept with its gradient, which often is the peak of the whole step. Their loss "
        "is divided by the labels of the whole update, so accumulation gives what a large batch gives."
    ),
    "batch_size": (
        "Activations are kept from forward to backward, so they grow in proportion to the batch; weights, gradients "
        "and optimizer state do not. Larger matrices use a GPU better, so samples/s rise until it is full. With fewer "
        "updates per epoch the same learning rate learns less."
    ),
    "gradient_accumulation_steps": (
        "Gradients of several micro-steps are added up before one update: the effective batch of a large one with the "
        "activations of a small one. Speed hardly changes, as only optimizer steps are saved. With the epochs fixed "
        "there are fewer updates, so accuracy falls unless the learning rate is raised."
    ),
    "gradient_checkpointing": (
        "Forward keeps only the input of every layer; backward computes each layer once more to have the rest again. "
        "Activations shrink to about one layer's plus the inputs, for about a third more time; selective keeps "
        "products too, for hardly any. The numbers are the same, so accuracy is too."
    ),
    "weights": (
        "What the parameters are stored in. bf16 and fp16 halve them, their gradients and both states of AdamW: 8 "
        "bytes per parameter instead of 16. Small updates get lost in rounding, so a full training learns worse; LoRA "
        "keeps its own matrices in fp32. Precision is another thing: with fp32 weights it casts for every product, "
        "with 16-bit weights and precision fp32 nothing is cast and everything is computed as it is stored."
    ),
    "precision": (
        "fp16 and bf16 run matrix products in 16 bits on tensor cores: activations halve, while weights and optimizer "
        "state stay fp32, with a 16-bit copy of the weights during the step. tf32 saves time only, and needs "
        "Ampere or newer. fp16 needs loss scaling and may skip updates; bf16 has fp32's range but fewer digits. A GPU "
        "without such units gains memory, not speed."
    ),
    "optimizer": (
        "AdamW and Adam keep two fp32 states per parameter (8 bytes), 8-bit AdamW about 2, Adafactor a row and a "
        "column per matrix, SGD none. The state appears at the first optimizer step, which is where a run dies that "
        "fitted until then. SGD usually needs another learning rate, and learns transformers worse."
    ),
    "optimizer_implementation": (
        "loop updates one parameter after the other: many small kernels, the slowest. foreach joins them but makes "
        "temporary copies as large as the gradients, which can be the peak. fused does all in one kernel with no "
        "copies. The result is the same but for rounding."
    ),
    "momentum": (
        "SGD's: a step goes on with this share of the one before, which evens out noisy gradients and gets through "
        "flat stretches. One state per parameter is kept for it; 0.9 is usual, 0 switches it off."
    ),
    "optimizer_in_backward": (
        "Each parameter is updated as soon as its gradient is complete, and the gradient freed: 4 bytes per parameter "
        "less at the peak. It rules out accumulation, clipping by the whole norm and fp16's loss scaling."
    ),
    "lora_rank": (
        "The model's weights are frozen; beside each matrix two thin ones of this rank are trained. Gradients and "
        "optimizer state shrink to those; activations mostly stay, because gradients still flow through the frozen "
        "layers. A rank too small may not reach the accuracy of training everything."
    ),
    "lora_targets": (
        "Which linear layers have thin matrices beside them: peft's default for the model (as a rule the query's and "
        "the value's of attention), all-linear, or those whose names end so, with commas. More layers learn more, and "
        "keep more activations."
    ),
    "lora_alpha": (
        "What the thin matrices add is multiplied by alpha ÷ rank: with a fixed alpha a higher rank needs no other "
        "learning rate. It changes neither memory nor speed."
    ),
    "lora_dropout": (
        "The thin matrices see an input of which this share is dropped, which regularises where there is little data. "
        "That input is a tensor of its own, and is kept with its mask until backward."
    ),
    "cross_entropy": (
        "plain computes a score for every word at every token, keeps them with their gradient, and often peaks there. "
        "chunked (PyTorch's) and liger (Triton kernels, CUDA) compute product and loss for some tokens at a time, and "
        "again in backward: the scores are never all there, for one more product by the vocabulary. Loss and gradients "
        "are the same but for rounding."
    ),
    "activation_offloading": (
        "What layers keep for backward is copied to the host's memory, and back when it is needed: the GPU holds about "
        "one layer's. The copies go over PCIe, which is often slower than computing again; with checkpointing only the "
        "layers' inputs are moved, which is little. The numbers are the same."
    ),
    "torch_compile": (
        "The model is translated into fewer, larger kernels, which saves memory traffic and some activations. The "
        "first updates pay for it with seconds to minutes, and new input shapes may pay again; only a longer run "
        "earns it back."
    ),
    "attention": (
        "eager computes and keeps the matrix of length × length scores for every head and layer: it grows with the "
        "square of the length. sdpa and flash compute it in blocks and never store it: far less memory on long "
        "sequences, and faster. The result is the same but for rounding. auto takes sdpa where the model supports it, "
        "else eager, and the run says which."
    ),
    "padding": (
        "A batch is a rectangle, so short texts are filled up: max_length to the sequence length, longest to the "
        "longest of the batch, bucketed after sorting by length, packed by putting documents behind each other. Less "
        "padding is less work and less memory. Bucketing makes batches less random."
    ),
    "seq_len": (
        "Activations grow in proportion to the tokens of a batch, eager attention's scores with the square of the "
        "length. Time per sample grows likewise. Cutting texts shorter loses what stood behind the cut."
    ),
    "target_len": (
        "What a seq2seq model writes has a length of its own. The decoder's activations and the logits grow with it, "
        "the encoder's with the sequence length, and attention between the two with their product."
    ),
    "samples": (
        "How many samples an epoch has: time grows in proportion, the peak of memory does not change. More data "
        "usually learns more; too few updates leave the measured samples/s to the warm-up."
    ),
    "eval_samples": (
        "Samples that an evaluation scores, without gradients and so without kept activations. The more there are, the "
        "surer the accuracy: its error falls with the square root of their number."
    ),
    "eval_steps": (
        "How many updates lie between two evaluations; where it is not set, there is one after every epoch. More of "
        "them show sooner when a model begins to learn by heart, and each takes its time. Training goes on from the "
        "same weights in the same order, so the losses are the same."
    ),
    "metric_for_best_model": (
        "Evaluations are compared by this figure. The loss also sees how sure the answers are, and rises first when a "
        "model learns by heart. Macro-F1 counts every class alike, so use it where some are rare and still matter: "
        "accuracy hardly sees those."
    ),
    "early_stopping_patience": (
        "The run ends after this many evaluations in a row that were not better than the best before them, which saves "
        "the time of epochs that only learn by heart. An evaluation is noisy: with 1 a single bad one ends the run."
    ),
    "early_stopping_threshold": (
        "An evaluation that is better than the best by no more than this still counts against the patience. 0 takes "
        "any gain for one."
    ),
    "epochs": (
        "Passes over the same samples: time grows in proportion, memory does not. More epochs learn the training "
        "samples better, and from some point on only those."
    ),
    "learning_rate": (
        "How far an update goes. It costs neither memory nor time. Too small learns slowly; too large makes the loss "
        "jump or become nan. A larger effective batch, with its fewer updates, usually bears a larger one."
    ),
    "lr_scheduler": (
        "linear lets the learning rate fall to 0 by the end of the run, which usually ends at a lower loss; cosine "
        "stays high longer and falls fast in the middle; constant keeps it. Neither memory nor speed changes."
    ),
    "warmup_steps": (
        "The first updates go by the noise of a few batches and by optimizer states that have seen little, so a rate "
        "that rises from 0 keeps them from doing harm. 0.06 to 0.1 of all updates is usual for fine-tuning. It costs "
        "nothing but those updates."
    ),
    "weight_decay": (
        "Every update also shrinks the weights by the learning rate times this, against learning by heart; 0.01 is "
        "usual for AdamW. As in the Trainer, biases and the weights of normalisations are left alone. It costs no "
        "memory."
    ),
    "class_weights": (
        "Where one class has most of the samples, answering it always is cheap, and rare ones are hardly learned. "
        "balanced multiplies a sample's loss by samples ÷ (classes × samples of its class): recall of rare classes and "
        "macro-F1 rise as a rule, accuracy may fall. It costs one number per class."
    ),
    "label_smoothing_factor": (
        "The label counts 1 less this share, which is spread evenly over all classes, so the model is not driven to "
        "be entirely sure. It helps with wrong labels; 0.1 is usual. Losses with and without it cannot be compared. "
        "Neither memory nor speed changes."
    ),
    "max_grad_norm": (
        "Gradients together longer than this are scaled down, so one bad batch cannot throw the weights far off. The "
        "norm reads every gradient once per update: little time, hardly any memory. 0 switches it off."
    ),
    "non_finite_loss": (
        "A loss that is nan or inf rarely becomes a number again: what follows measures speed and memory, but learns "
        "nothing. stop ends the run at that update, as failed, and keeps its row. The check costs nothing: the loss is "
        "read once per update anyway."
    ),
    "dropout": (
        "While training, a share of the activations is set to 0, against learning by heart. The masks are kept for "
        "backward: some memory, a little time. Off makes two runs comparable to the last digit."
    ),
    "dataloader_num_workers": (
        "Processes that prepare the next batches while the device computes. They help only where the data share of an "
        "update is large; else they cost host memory and a start of seconds. GPU memory and accuracy do not change."
    ),
    "dataloader_pin_memory": (
        "Batches are put into page-locked host memory, from which a GPU copies while it computes. It saves a little "
        "time per batch on CUDA and does nothing elsewhere."
    ),
    "dataloader_prefetch_factor": (
        "How many batches each worker has ready. More evens out slow batches and costs host memory; without workers it "
        "does nothing."
    ),
    "seed": (
        "Initial weights of the head, order of the samples and dropout follow from it. Memory and speed do not change; "
        "how much loss and accuracy differ between seeds is the noise that a real gain must exceed."
    ),
    "gpus": (
        "Every GPU runs the same model on batches of its own, as large as the batch size says; after backward the "
        "gradients are averaged, so an update learns from batch × accumulation × GPUs samples. Speed grows with them "
        "less what they wait for each other; memory on each falls only where the work divides what is held."
    ),
    "parallel": (
        "ddp keeps everything on every GPU, and buckets of all gradients besides. zero1 leaves each GPU the "
        "optimizer's states of its own parameters, whole tensors and so not evenly. fsdp (ZeRO-3) divides weights, "
        "gradients and states evenly and gathers one layer's weights at a time, which is sent twice in an update."
    ),
    "reshard_after_forward": (
        "With on a layer's whole weights are there only while it computes, and are gathered once more in backward. Off "
        "keeps them from forward to backward, as ZeRO-2 does: a third less is sent, and all 16- or 32-bit weights are "
        "held at the peak."
    ),
    "bucket_mib": (
        "Gradients are sent in buckets while backward still computes the layers before. Small ones start early and "
        "cost more calls; one that holds everything overlaps with nothing. Together they take as much memory as the "
        "gradients whatever their size. PyTorch's bucket_cap_mb."
    ),
    "device": (
        "Where it runs. A virtual GPU computes on the CPU and counts memory as that GPU's allocator would, down to a "
        "real out-of-memory error; its samples/s are the CPU's. auto takes the first CUDA GPU."
    ),
    "vram_limit": (
        "The run is stopped with an out-of-memory error at this limit, as a smaller card would. Nothing else changes: "
        "it tells whether a configuration would fit there."
    ),
    "output_dir": (
        "The folder gets the model in Hugging Face's format: weights as safetensors, configuration with the labels' "
        "names, tokenizer, a model card; for LoRA the adapter. Where samples are held out it is the best of all "
        "evaluations, and the last is in `last`. Writing takes time at an evaluation, and no GPU memory."
    ),
    "save_steps": (
        "What the run needs to go on as if nothing had happened: trained weights, optimizer, schedule, random numbers "
        "and the place in the data. AdamW's checkpoint is three times the trained weights. The run waits while it is "
        "written; GPU memory and what is learned do not change."
    ),
    "save_total_limit": (
        "A new checkpoint is complete before an older one is removed. One is enough to go on; with more there is a way "
        "back. Disk space is all that it costs."
    ),
    "command": (
        "Your script runs as it is, in a process of its own; what looks on inside it waits for PyTorch and changes "
        "nothing that it computes. Placeholders make its flags knobs: {batch_size} is that knob's value, "
        "{precision:bf16=bfloat16,fp32=float32} its own word for it, {block_size=256,512} a knob that it alone knows."
    ),
    "command_flags": (
        "Scripts that read transformers.TrainingArguments have flags for most knobs: one that is turned is added to "
        "the command, the others stay the script's own. It is found out by reading the script."
    ),
    "command_values": (
        "What stands for the knobs that only your script knows. The values in the command are those that up and down "
        "visit; any other can be given."
    ),
    "max_updates": (
        "After so many updates the script gets SIGINT, as Ctrl-C sends it, and the run counts as completed: enough to "
        "compare memory and speed without an epoch of each. What it would have saved or scored at its end is not there."
    ),
    **ANSWERING_TEXTS,
}
"""By the name of the knob."""


def text_of(name: str, job: str) -> str:
    """What a knob does in a job."""
    return IN_ANSWERING.get(name, KNOB_TEXTS[name]) if job == ANSWER else KNOB_TEXTS[name]
