"""Writes Tests/EngineTests/Fixtures/chat: conversations as transformers makes training data of them.

    python3 Tests/Oracles/make_chat_fixtures.py

    tokenizer.json    bytes with a few merges, and the special tokens of chats
    chat.json         template, special tokens, messages; ids as `apply_chat_template(tokenize=True)` gives them, and the mask of the
                      assistant's tokens: `return_assistant_tokens_mask` where the template has {% generation %}, else the tokens
                      that the conversation has with each of the assistant's messages and not before it; `refused` where what is
                      before is not how the conversation begins, or transformers refuses
"""

import json
import pathlib
import shutil

from make_template_fixtures import FAMILIES
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

OUT = pathlib.Path(__file__).resolve().parents[1] / "EngineTests" / "Fixtures" / "chat"

SPECIAL = [
    "<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "<start_of_turn>", "<end_of_turn>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "[INST]", "[/INST]",
]

MARKED = {
    "marked-chatml": """{%- for message in messages %}
{%- if message.role == 'assistant' %}
{{- '<|im_start|>assistant\\n' }}{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}
{%- else %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}""",
    # Writes answers by number, so that no beginning of a conversation is the beginning of the whole.
    "marked-counting": """{{- messages | length }} messages
{% for message in messages %}{{ message.role }}: {% if message.role == 'assistant' %}{% generation %}{{ message.content }}{{ eos_token }}{% endgeneration %}
{% else %}{{ message.content }}
{% endif %}{% endfor %}""",
}
COUNTING = MARKED["marked-counting"].replace("{% generation %}", "").replace("{% endgeneration %}", "")

CONVERSATIONS = [
    [("user", "Who wrote the play?"), ("assistant", "The poet did.")],
    [("system", "Answer in a word."), ("user", "the the"), ("assistant", "Yes."), ("user", "And 2 + 2?"), ("assistant", "Four, I think.")],
    [("user", "Naïve café 🦙?"), ("assistant", "Ünïcode 日本 🦙 then."), ("user", " spaces "), ("assistant", "  the\n\nend  ")],
    [("user", "one"), ("assistant", "two"), ("assistant", "three")],
    [("system", "Only this."), ("user", "Hm?"), ("assistant", "")],
    [("user", "Use the tool."), ("tool", "{\"result\": 4}"), ("assistant", "It says 4."), ("user", "Thanks")],
]


def tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(SPECIAL + alphabet)}
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("Ġ", "t"), ("e", "r")]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    result = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    result.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    result.decoder = decoders.ByteLevel()
    result.add_special_tokens(SPECIAL)
    # What apply_chat_template must not add.
    result.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return result


def prefixes(fast, messages):
    """The mask by the tokens of what comes before each message; None where a text is not how the next begins."""
    def text(part, opens):
        return fast.apply_chat_template(part, tokenize=False, add_generation_prompt=opens)

    def ids(part, opens):
        return fast.apply_chat_template(part, tokenize=True, add_generation_prompt=opens, return_dict=False)

    whole, all_ids = text(messages, False), ids(messages, False)
    mask = [0] * len(all_ids)
    for place, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        given, said = text(messages[:place], True), text(messages[: place + 1], False)
        if not said.startswith(given) or not whole.startswith(said):
            return None
        before, after = ids(messages[:place], True), ids(messages[: place + 1], False)
        assert all_ids[: len(before)] == before and all_ids[: len(after)] == after, "tokens join what texts keep apart"
        for token in range(len(before), len(after)):
            mask[token] = 1
    return mask


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    tokenizer().save(str(OUT / "tokenizer.json"), pretty=False)
    cases = []
    templates = {**FAMILIES, **MARKED, "counting": COUNTING}
    # Marks inside a macro have no place that transformers would tell rightly.
    templates.pop("marked", None)
    for name, template in templates.items():
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer(), bos_token="<s>", eos_token="</s>", unk_token="<unk>")
        # transformers takes no date here, and so does fedlora: the template's own.
        fast.chat_template = template.replace("strftime_now is defined", "false")
        for conversation in CONVERSATIONS:
            messages = [{"role": role, "content": content} for role, content in conversation]
            case = {"name": name, "template": template, "messages": messages}
            try:
                if "{% generation %}" in template:
                    found = fast.apply_chat_template(messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
                    case |= {"ids": found["input_ids"], "mask": found["assistant_masks"]}
                else:
                    mask = prefixes(fast, messages)
                    found = fast.apply_chat_template(messages, tokenize=True, return_dict=False)
                    case |= {"refused": True} if mask is None else {"ids": found, "mask": mask}
            except AssertionError:
                raise
            except Exception as error:  # noqa: BLE001: whatever Jinja raises is a refusal
                case["refused"] = True
                print(name, type(error).__name__, error)
            cases.append(case)
    result = {"tokens": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}, "cases": cases}
    (OUT / "chat.json").write_text(json.dumps(result, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(len(cases), "cases,", sum("refused" in case for case in cases), "refused")
    for case in cases:
        print(case["name"], "refused" if "refused" in case else f"{sum(case['mask'])}/{len(case['ids'])}", end="; ")


if __name__ == "__main__":
    main()
