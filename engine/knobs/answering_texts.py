"""What every knob of answering does to latency, throughput, memory and quality, and why. Standard library only."""

from __future__ import annotations

ANSWERING_TEXTS: dict[str, str] = {
    "prompts": (
        "What is asked. dummy prompts are random tokens: their cost is real, their answers mean nothing. generated "
        "asks about made-up text, as models learn it here, and repeating has such text said again word for word, as "
        "an edit or a quotation would; a file has a prompt per row. Time and memory depend on how long they are, and "
        "speculation and caches on what is in them."
    ),
    "prompt": (
        "One prompt, typed by hand: it is asked once, in the model's own form of conversation. Its length is what it "
        "is, and its answer ends where the model ends it."
    ),
    "requests": (
        "How many prompts are answered. More of them give surer percentiles; memory does not depend on it. The first "
        "one is asked once more before all others, to warm up, and is in no figure."
    ),
    "prompt_len": (
        "Prefill computes all prompt tokens at once: time to first token grows with them (attention with their "
        "square), and so do the keys and values that every later step reads. Of a longer prompt the end is kept."
    ),
    "prefix_len": (
        "Tokens that every dummy prompt begins with, as a system prompt does. Without a prefix cache they are "
        "computed again for every prompt."
    ),
    "repeats": (
        "The share of the requests that ask again what was asked before: the common case that a response cache is "
        "for. Without one they cost as much as any other."
    ),
    "max_new_tokens": (
        "Each new token takes a forward that reads all weights and all keys and values so far. Latency grows "
        "with their number, and the KV cache by one token each."
    ),
    "ignore_eos": (
        "On, every answer has all its tokens, so that runs can be compared. Off, an answer ends where the model ends "
        "it, and the others of its batch go on without it."
    ),
    "chat_template": (
        "Models for conversations were taught a form, with who speaks; asked without it they answer worse. It adds a "
        "few tokens to each prompt."
    ),
    "kv_cache": (
        "More space for less computation: with a cache a step computes the new token alone, and reads the keys and "
        "values of those before (2 × layers × KV heads × head size each). Off computes all tokens again at every "
        "step. static takes the room of the longest answer at once, which torch.compile can follow and which is "
        "wasted where answers are short. The tokens are the same."
    ),
    "kv_dtype": (
        "Keys and values in 8 bits with a scale per token and head take about half of a 16-bit cache, so twice the "
        "length or batch fits. They are widened again at each step, which costs time here, and rounding may change "
        "answers: the agreement says how often."
    ),
    "prefix_cache": (
        "The common case: prompts often begin alike (a system prompt, a document). The keys and values of what is "
        "shared are kept, and only the rest is computed: a shorter time to first token, for the memory that is held."
    ),
    "response_cache": (
        "The common case once more: a prompt that was asked before is answered from memory at no cost. It is only "
        "used where the answer does not depend on chance, and its hit rate depends on who asks."
    ),
    "speculate": (
        "A forward over several tokens takes hardly longer than over one, as reading the weights is what takes time. "
        "So tokens are guessed and checked together, and those before the first wrong one are kept. lookup guesses "
        "what followed the same words before; draft asks a smaller model. Greedy answers stay the same; a wrong "
        "guess is wasted work, and where few are right it is slower than without."
    ),
    "speculate_tokens": (
        "How many tokens are guessed at a time. The chance that all are right falls with each; every wrong one was "
        "computed for nothing, and a draft model takes a forward for each."
    ),
    "draft_model": (
        "The model that guesses. It has to share the vocabulary, and it pays where its forward takes a twentieth of "
        "the larger one's or less; its weights and its own KV cache come on top."
    ),
    "batching": (
        "A static batch ends with its longest answer: those that ended earlier leave their place empty. Continuous "
        "batching gives it to the next prompt at once: more tokens/s where lengths differ, and shorter waiting."
    ),
    "temperature": (
        "0 takes the likeliest token. Above, tokens are drawn by chance, the flatter the higher: answers differ from "
        "run to run with the seed, guesses are accepted less often, and caches of responses are not used."
    ),
    "top_k": "Draw among the k likeliest tokens only; 0 draws among all. It needs a temperature above 0.",
    "top_p": (
        "Draw among the likeliest tokens that have this probability together; 1 draws among all. It needs a "
        "temperature above 0."
    ),
    "held_out_tokens": (
        "Rounded weights, or keys and values, are paid for in quality: on this many tokens of held-out text it is "
        "measured how often the likeliest token is still that of the model's own weights, and the perplexity of "
        "both. Of a model that learned nothing it says nothing. It is done after the answers, and in none of their "
        "times."
    ),
}

IN_ANSWERING: dict[str, str] = {
    "model": (
        "A step reads every parameter once, however few tokens it computes: at batch 1 the bytes of the weights bound "
        "the tokens/s. Layers and heads of keys and values decide how much every token takes in the KV cache."
    ),
    "task": (
        "causal-lm and seq2seq-lm write answers, token by token; classification scores texts, each in one forward. "
        "Of a language model's head only the last token's scores are needed for the next one."
    ),
    "batch_size": (
        "So many prompts are answered at once: a step reads the weights once for all of them, so tokens/s rise almost "
        "in proportion until computing takes longer than reading. The KV cache and prefill's activations grow in "
        "proportion, and each answer waits for the slowest of its batch; the weights do not grow."
    ),
    "weights": (
        "What the parameters are stored in. bf16 and fp16 halve the bytes that every step reads, int8 and nf4 take a "
        "quarter and an eighth of fp32's for most of them but have to be scaled back for every product, which may "
        "cost more than it saves. Agreement of the top token and perplexity on held-out text say what it costs in "
        "quality."
    ),
    "precision": (
        "fp16 and bf16 compute matrix products in 16 bits on tensor cores. It shortens prefill, which computes much "
        "at once; decoding mostly waits for the weights, so what they are stored in counts for more."
    ),
    "torch_compile": (
        "The model is translated into fewer, larger kernels. Decoding launches hundreds of small ones for a token, so "
        "it is bound by the host where the model is small; a static KV cache keeps shapes the same, so that it is "
        "translated once. The time for that is shown apart."
    ),
    "seed": "Dummy and generated prompts and what is sampled follow from it. Memory and speed do not change.",
}
"""Of knobs that both jobs have and that do something else to answers."""
