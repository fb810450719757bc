"""The text of the original's prompt builders (`merv/models/backbones/llm/prompting`), turn by turn.

Turns are right-stripped and separate, as training tokenises them. Two mistakes of the original are corrected: the BOS
in the text, which the tokenizer also writes, and the missing system header in the first turn of Llama-3.1 and Qwen2.5.
`<image>` and outer white space are removed from all messages.
"""

VISION = (
    "You are a helpful language and vision assistant. "
    "You are able to understand the visual content that the user provides, "
    "and assist the user with a variety of tasks using natural language."
)
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


def llama3_turn(role, text):
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>"


# The system header, a message, and the end of a reply.
FORMATS = {
    "pure": (None, lambda header, text: f"In: {text}\nOut: ", "</s>"),
    "llama2-chat": (
        lambda system=VISION: f"<<SYS>\n{system}\n<</SYS>>\n\n", lambda header, text: f"[INST] {header}{text} [/INST] ", "</s>",
    ),
    "vicuna": (
        lambda system=VICUNA: f"{system} ", lambda header, text: f"{header}USER: {text} ASSISTANT: ", "</s>",
    ),
    "llama3": (
        lambda system=VISION: llama3_turn("system", system),
        lambda header, text: f"{header}{llama3_turn('user', text)}<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
    ),
    "qwen2.5": (
        lambda system=VISION: f"<|im_start|>system\n{system}<|im_end|>\n",
        lambda header, text: f"{header}<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n",
        "<|im_end|>",
    ),
}


def turns(format, messages, system=None):
    """messages: those of the user and the model, alternating. A system prompt of "" omits the header."""
    header, human, end = FORMATS[format]
    for index, message in enumerate(messages):
        text = message.replace("<image>", "").strip()
        if index % 2:
            yield f"{text or ' '}{end}".rstrip()
            continue
        first = header if index == 0 and system != "" else None
        yield human(first(*([system] if system else [])) if first else "", text).rstrip()
