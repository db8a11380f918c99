"""Conversations in the script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.contract.config import RunConfig
from engine.export.trainer_script.data.tokenizer import Tokenizer, tokenizer_part
from engine.export.trainer_script.embedding import embedded
from engine.export.trainer_script.parts import Part, literal

if TYPE_CHECKING:
    from engine.workloads.standalone.chats import ChatColumns


def instructions_part(config: RunConfig, rows: Part, tokenizer: Tokenizer, columns: ChatColumns) -> Part:
    """Conversations tokenised as `engine.workloads.kinds.instructions` does it. `rows` makes `pool` and `held_out`."""
    from engine.workloads.standalone import chat_tokens, chats, packing

    said = "[str(message['content']) for messages in talks(pool) for message in messages]".replace("'", '"')
    part, made = tokenizer_part(tokenizer, "byte_level", said)
    packed = config.padding == "packed"
    more = embedded(chats, chat_tokens, *([packing] if packed else []))
    roles = ("messages", "prompt", "context", "answer", "system")
    named = ((role, getattr(columns, role)) for role in roles)
    found = ", ".join(f"{role}={literal(name)}" for role, name in named if name is not None)
    collator = "default_data_collator" if packed else "DataCollatorForTokenClassification"
    how = _PACKED.replace("PAD", str(tokenizer.pad_token_id)) if packed else _APART
    return Part(
        imports=(
            *rows.imports,
            *part.imports,
            *more.imports,
            "from datasets import Dataset",
            f"from transformers import {collator}",
        ),
        constants=(*rows.constants, f"ANSWERS_ONLY = {config.completion_only_loss}"),
        functions=(*rows.functions, *part.functions, *more.functions, _TALKS.replace("FOUND", found), how),
        main=(
            *rows.main,
            *made,
            "tokenizer = with_template(tokenizer)",
            "train = rows_of(talks(pool), tokenizer, SAMPLES)",
            "evaluation = rows_of(talks(held_out), tokenizer, EVAL_SAMPLES)",
        ),
        notes=rows.notes,
        needs=rows.needs,
    )


_TALKS = '''
def talks(rows):
    """The conversations of a table, as messages."""
    found = (messages_of(row, ChatColumns(FOUND)) for row in rows)
    return [messages for messages in found if messages]
'''
_APART = '''
def rows_of(conversations, tokenizer, wanted):
    """The tokens of each conversation, and those of them that are learned."""
    found = encode(conversations, tokenizer, SEQ_LEN, answers_only=ANSWERS_ONLY, at_most=wanted).conversations
    return Dataset.from_dict({"input_ids": [one.ids for one in found], "labels": [one.labels for one in found]})
'''
_PACKED = '''
def rows_of(conversations, tokenizer, wanted):
    """Whole conversations packed into rows."""
    room = None if wanted is None else wanted * SEQ_LEN
    made = encode(conversations, tokenizer, SEQ_LEN, answers_only=ANSWERS_ONLY, at_most=room, tokens=True)
    found = made.conversations
    ids = [one.ids for one in found]
    rows = assign([len(each) for each in ids], SEQ_LEN)[:wanted]
    return Dataset.from_dict(pack(ids, rows, SEQ_LEN, PAD, [one.labels for one in found]))
'''
