"""Writes Tests/EngineTests/Fixtures/generation: what transformers and peft generate, draw and score.

    python3 Tests/Oracles/make_generation_fixtures.py

Deterministic. Models run in float64. Needs the fixtures of make_decoder_fixtures.py.

    greedy.json        by decoder fixture: prompts, and the tokens that `generate` gives without and with the adapter, and with a
                       repetition penalty; `margin` is the least distance between the best and the second logit of all steps
    sampling.json      logits, options, and the probabilities that transformers' logits processors leave
    tiny/              a small Llama with a tokenizer of bytes, generation_config.json with two stop tokens, a chat template, and
                       `adapter`, which peft itself saved
    tiny.json          what `generate` gives on tiny/ for some texts, and log-likelihoods of continuations
    masked/            bert, roberta, distilbert: small encoders with a head for masked tokens; expected.json: logits at the mask, and
                       pseudo-log-likelihoods
    stories260K.json   greedy tokens of the real model where ../shared/models/stories260K is beside the checkout
"""

import json
import pathlib
import shutil

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, LogitsProcessorList, RepetitionPenaltyLogitsProcessor,
                          TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper)

ROOT = pathlib.Path(__file__).resolve().parents[1]
DECODERS = ROOT / "EngineTests" / "Fixtures" / "decoders"
OUT = ROOT / "EngineTests" / "Fixtures" / "generation"
STORIES = ROOT.parents[1] / "shared" / "models" / "stories260K"


def generate(model, prompt, count, **options):
    """New tokens, and the least distance between the two best logits of a step."""
    output = model.generate(
        input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), do_sample=False,
        max_new_tokens=count, pad_token_id=0, return_dict_in_generate=True, output_scores=True, **options)
    margins = [float(s[0].topk(2).values.diff().abs()) for s in output.scores]
    return output.sequences[0, len(prompt):].tolist(), min(margins)


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float64).eval()


def greedy():
    result = {}
    for folder in sorted(DECODERS.iterdir()):
        model = load(folder / "model")
        vocabulary = model.config.vocab_size
        generator = torch.Generator().manual_seed(77)
        # Phi-3's LongRoPE changes its frequencies beyond the first context, where fedlora ends.
        is_short = folder.name == "phi3-longrope"
        lengths = (1, 5, 4, 6) if is_short else (1, 5, 130, 9) if folder.name.endswith("-long") else (1, 5, 12, 9)
        prompts = [torch.randint(3, vocabulary, (n,), generator=generator).tolist() for n in lengths]
        entry = {"prompts": prompts, "new_tokens": 6 if is_short else 14, "base": [], "lora": [], "penalised": [], "penalty": 1.4, "margin": 1e9}

        def add(key, model, **options):
            for prompt in prompts:
                tokens, margin = generate(model, prompt, entry["new_tokens"], eos_token_id=None, **options)
                entry[key].append(tokens)
                entry["margin"] = min(entry["margin"], margin)

        add("base", model)
        adapted = PeftModel.from_pretrained(model, folder / "adapter").to(torch.float64).eval()
        add("lora", adapted)
        add("penalised", adapted, repetition_penalty=entry["penalty"])
        result[folder.name] = entry
        print(folder.name, "margin", entry["margin"])
    (OUT / "greedy.json").write_text(json.dumps(result) + "\n")


def sampling():
    generator = torch.Generator().manual_seed(5)
    cases = []
    for temperature, top_k, top_p, penalty, seen in [
        (1.0, None, 1.0, 1.0, []), (0.7, None, 1.0, 1.0, []), (2.5, 5, 1.0, 1.0, []), (1.0, 1, 1.0, 1.0, []),
        (1.0, None, 0.9, 1.0, []), (1.0, None, 0.05, 1.0, []), (0.8, 12, 0.6, 1.0, []), (1.3, 200, 0.95, 1.0, []),
        (1.0, None, 1.0, 1.8, [0, 3, 3, 7, 31]), (0.6, 10, 0.8, 1.2, [1, 2, 3, 4, 5]), (1.0, None, 1.0, 0.7, [9, 10]),
    ]:
        logits = (torch.randn(32, generator=generator) * 2).float()
        processors = LogitsProcessorList()
        if penalty != 1:
            processors.append(RepetitionPenaltyLogitsProcessor(penalty))
        if temperature != 1:
            processors.append(TemperatureLogitsWarper(temperature))
        if top_k:
            processors.append(TopKLogitsWarper(top_k))
        if top_p < 1:
            processors.append(TopPLogitsWarper(top_p))
        history = torch.tensor([seen], dtype=torch.long)
        scores = processors(history, logits.clone().unsqueeze(0).double())
        cases.append({"logits": logits.tolist(), "temperature": temperature, "top_k": top_k, "top_p": top_p, "penalty": penalty,
                      "seen": seen, "probabilities": scores.softmax(-1)[0].tolist()})
    (OUT / "sampling.json").write_text(json.dumps(cases) + "\n")


TEMPLATE = (
    "{%- for message in messages %}<|{{ message['role'] }}|>{{ message['content'] | trim }}<|end|>\n{%- endfor %}"
    "{%- if add_generation_prompt %}<|assistant|>{%- endif %}"
)


def tiny():
    folder = OUT / "tiny"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    # Every byte, three merges, and the tokens of chats.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<s>", "</s>"] + alphabet)}
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the")]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    size = tokenizer.get_vocab_size()
    shape = {
        "vocab_size": size, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 24, "max_position_embeddings": 96, "tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 1,
    }
    torch.manual_seed(301)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **shape))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.6 if parameter.ndim == 2 else 0.2
            parameter.copy_(torch.randn(parameter.shape) * scale + (1.0 if "norm" in name else 0.0))
    model = model.float().eval()
    end = tokenizer.token_to_id("<|end|>")
    save_file({k: v.contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}, folder / "model.safetensors",
              metadata={"format": "pt"})
    told = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "rms_norm_eps": model.config.rms_norm_eps,
            "hidden_act": "silu", "rope_theta": 10000.0, "torch_dtype": "float32"} | shape
    (folder / "config.json").write_text(json.dumps(told, indent=1) + "\n")
    (folder / "generation_config.json").write_text(json.dumps({"bos_token_id": 0, "eos_token_id": [1, end]}) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": "</s>", "chat_template": TEMPLATE}, indent=1) + "\n")
    adapted = get_peft_model(model, LoraConfig(
        r=3, lora_alpha=6, use_rslora=True, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM", lora_dropout=0.1))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape) * 0.4)
    adapted.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    # peft writes a set in any order.
    config = folder / "adapter" / "adapter_config.json"
    told = json.loads(config.read_text())
    told["target_modules"].sort()
    config.write_text(json.dumps(told, indent=2, sort_keys=True))

    base = load(folder)
    adapted = PeftModel.from_pretrained(load(folder), folder / "adapter").to(torch.float64).eval()
    result = {"texts": [], "likelihoods": []}
    for text in ["the cat sat on the mat", "größer 日本", "a"]:
        prompt = tokenizer.encode(text).ids
        for name, each in [("base", base), ("lora", adapted)]:
            tokens, margin = generate(each, prompt, 24, eos_token_id=[1, end])
            result["texts"].append({"text": text, "ids": prompt, "adapter": name == "lora", "tokens": tokens, "margin": margin})
    for context, ending in [("the cat", " sat on the mat"), ("the cat ", "sat"), ("who", " knows the way"), ("who", " k")]:
        kept = context.rstrip()
        whole = tokenizer.encode(kept + context[len(kept):] + ending).ids
        before = len(tokenizer.encode(kept).ids)
        with torch.no_grad():
            logits = adapted(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
        rows = range(before - 1, len(whole) - 1)
        result["likelihoods"].append({
            "context": context, "ending": ending, "tokens": whole[before:],
            "sum": sum(float(logits[i, whole[i + 1]]) for i in rows),
            "greedy": all(int(logits[i].argmax()) == whole[i + 1] for i in rows)})
    (OUT / "tiny.json").write_text(json.dumps(result, ensure_ascii=False) + "\n")
    print("tiny margins", [round(each["margin"], 4) for each in result["texts"]])


def masked():
    shutil.rmtree(OUT / "masked", ignore_errors=True)
    common = {"vocab_size": 50, "tie_word_embeddings": True, "pad_token_id": 0}
    wide = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 20}
    shapes = {
        "bert": common | wide | {"type_vocab_size": 2},
        "roberta": common | wide | {"type_vocab_size": 1, "pad_token_id": 1, "max_position_embeddings": 22},
        "distilbert": common | {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 20},
    }
    result = {}
    for index, (kind, shape) in enumerate(shapes.items()):
        torch.manual_seed(400 + index)
        model = AutoModelForMaskedLM.from_config(AutoConfig.for_model(kind, **shape)).float().eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                scale = 0.4 if parameter.ndim == 2 else 0.2
                is_norm = "norm" in name.lower() and name.endswith("weight")
                parameter.copy_(torch.randn(parameter.shape) * scale + (1.0 if is_norm else 0.0))
        folder = OUT / "masked" / kind
        folder.mkdir(parents=True)
        tied = set(model._tied_weights_keys or {})
        weights = {k: v.contiguous().clone() for k, v in model.state_dict().items() if k not in tied and "position_ids" not in k}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps({"model_type": kind} | shape, indent=1) + "\n")
        model = model.double()
        generator = torch.Generator().manual_seed(9)
        texts = [torch.randint(5, 50, (n,), generator=generator).tolist() for n in (4, 9, 6)]
        mask, entries = 4, []

        def logits_of(tokens):
            with torch.no_grad():
                return model(input_ids=torch.tensor([tokens])).logits[0]

        for tokens in texts:
            place = len(tokens) // 2
            covered = tokens[:place] + [mask] + tokens[place + 1:]
            total = 0.0
            for each in range(1, len(tokens) - 1):
                hidden = tokens[:each] + [mask] + tokens[each + 1:]
                total += float(logits_of(hidden)[each].log_softmax(-1)[tokens[each]])
            entries.append({"tokens": tokens, "place": place, "logits": logits_of(covered)[place].tolist(), "pseudo": total})
        result[kind] = {"mask": mask, "texts": entries}
    (OUT / "masked" / "expected.json").write_text(json.dumps(result) + "\n")


def stories():
    if not STORIES.exists():
        return
    model = load(STORIES)
    tokenizer = Tokenizer.from_file(str(STORIES / "tokenizer.json"))
    entries = []
    for text, count in [("Once upon a time", 200), ("", 120), ("The little dog was", 90), ("Tom and his mom went to the", 60)]:
        prompt = tokenizer.encode(text).ids
        tokens, margin = generate(model, prompt, count)
        entries.append({"text": text, "prompt": prompt, "new_tokens": count, "tokens": tokens, "margin": margin})
        print("stories", margin, repr(tokenizer.decode(tokens)[:90]))
    (OUT / "stories260K.json").write_text(json.dumps(entries) + "\n")


def main():
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    greedy()
    sampling()
    tiny()
    masked()
    stories()


if __name__ == "__main__":
    main()
