"""Writes Tests/EngineTests/Fixtures/decoders and decoder-classifiers: small random decoders with LoRA, and what transformers, peft
and PyTorch compute.

    python3 Tests/Oracles/make_decoder_fixtures.py [NAME...]

Names limit it to these fixtures.
Deterministic. All results are computed in float64 and stored as float32. For each fixture a folder:

    model/config.json, model/model.safetensors       the base model
    adapter/adapter_config.json, adapter_model.safetensors   as peft saves them; A and B non-zero
    inputs.safetensors      batches 0, 1, 2: input_ids, attention_mask, labels (batch, length), all I32, right padded; a label is the
                            token itself, or -100 where it is not to be predicted
    expected.safetensors    base.hidden.N (the last one after the final norm), base.logits, base.loss; lora.logits, lora.loss,
                            merged.logits; grad.*; sgd.after3.*, sgd.losses, adamw.after3.*, adamw.losses; dp.norms, dp.losses
    oracle.json             the options, the optimisers' constants, and for each tensor its greatest absolute value and the
                            error that PyTorch makes in float32

base.*, lora.*, grad.* and dp.* are of batch 0; the optimisers take batches 0, 1, 2 in turn, and a loss is before its step: the mean
over all labels of the batch that follow a token. dp.* are of the single examples, each the mean over its own labels.

decoder-classifiers holds the same for sequences that are classified by their last token: labels and token types (all 0) as
make_bert_fixtures.py has them, lora.logits of the sequences, a trained head `score` beside the adapter, and no base.logits, base.loss
and merged.logits.
"""

import json
import pathlib
import shutil
import sys

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

OUT = pathlib.Path(__file__).resolve().parents[1] / "EngineTests" / "Fixtures" / "decoders"
VOCABULARY, LENGTH, BATCH = 60, 11, 4
SGD = {"lr": 0.02}
ADAMW = {"lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01}
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALL = ATTENTION + ["gate_proj", "up_proj", "down_proj"]

SHAPE = {
    "vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": 32, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": None,
}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8,
}
# GPT-2 says the shape in words of its own.
GPT2 = {
    "n_embd": 16, "n_layer": 2, "n_head": 4, "n_inner": 24, "n_positions": 32, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
    "tie_word_embeddings": True,
}
HALF_TURNED = {"rope_parameters": {"rope_type": "default", "rope_theta": 1000.0, "partial_rotary_factor": 0.5}}
NEOX = {"attention_dropout": 0.0, "hidden_dropout": 0.0} | HALF_TURNED
GEMMA = {"tie_word_embeddings": True, "head_dim": 6, "hidden_activation": "gelu_pytorch_tanh"}
GEMMA2 = GEMMA | {
    "sliding_window": 4, "query_pre_attn_scalar": 9, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0, "num_hidden_layers": 3,
}
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "short_factor": [1.1, 2.5],
    "long_factor": [3.0, 9.0],
}
FIXTURES = {
    "llama": {"type": "llama", "seed": 201, "targets": ["q_proj", "v_proj"], "rslora": False, "config": {}},
    "llama-biased": {
        "type": "llama", "seed": 202, "targets": ALL, "rslora": True,
        "config": {"attention_bias": True, "mlp_bias": True, "rope_parameters": LLAMA3, "head_dim": 6},
    },
    "mistral": {"type": "mistral", "seed": 203, "targets": ["k_proj", "down_proj"], "rslora": False, "config": {"sliding_window": 4}},
    "qwen2": {"type": "qwen2", "seed": 204, "targets": ["o_proj", "gate_proj"], "rslora": False, "config": {"tie_word_embeddings": True}},
    "gpt2": {"type": "gpt2", "seed": 205, "targets": ["c_attn"], "rslora": False, "config": GPT2},
    "gpt2-all": {
        "type": "gpt2", "seed": 206, "targets": ["c_attn", "c_proj", "c_fc"], "rslora": True,
        "config": GPT2 | {"activation_function": "relu", "scale_attn_weights": False},
    },
    "neox": {
        "type": "gpt_neox", "seed": 207, "targets": ["query_key_value"], "rslora": False,
        "config": NEOX,
    },
    "neox-all": {
        "type": "gpt_neox", "seed": 208, "targets": ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"], "rslora": False,
        "config": NEOX | {"hidden_act": "gelu_new"},
    },
    "neox-sequential": {
        "type": "gpt_neox", "seed": 209, "targets": ["dense_h_to_4h"], "rslora": False,
        "config": NEOX | {"use_parallel_residual": False, "attention_bias": False,
                          "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1000.0, "partial_rotary_factor": 1.0}},
    },
    "gemma": {"type": "gemma", "seed": 210, "targets": ["q_proj", "up_proj"], "rslora": False, "config": GEMMA},
    "gemma2": {"type": "gemma2", "seed": 211, "targets": ["k_proj", "v_proj", "gate_proj"], "rslora": False, "config": GEMMA2},
    "gemma2-all": {
        "type": "gemma2", "seed": 212, "targets": ALL, "rslora": False,
        "config": GEMMA2 | {"attention_bias": True, "layer_types": ["full_attention", "full_attention", "sliding_attention"]},
    },
    # Longer than the blocks of rows in which attention is formed, with and without a window that is shorter than a block.
    "gemma2-long": {
        "type": "gemma2", "seed": 218, "targets": ["q_proj", "k_proj", "v_proj"], "rslora": False, "length": 150, "batch": 2,
        "config": GEMMA2 | {"sliding_window": 20, "num_hidden_layers": 2, "max_position_embeddings": 160},
    },
    "phi3": {
        "type": "phi3", "seed": 213, "targets": ["qkv_proj", "gate_up_proj"], "rslora": False,
        "config": {"sliding_window": 5, "original_max_position_embeddings": 32},
    },
    "phi3-longrope": {
        "type": "phi3", "seed": 214, "targets": ["o_proj", "gate_up_proj", "down_proj"], "rslora": False,
        "config": {"rope_parameters": LONGROPE, "hidden_size": 32, "original_max_position_embeddings": 12, "max_position_embeddings": 48},
    },
    "qwen3": {"type": "qwen3", "seed": 215, "targets": ["q_proj", "k_proj"], "rslora": False, "config": {"head_dim": 6}},
    "qwen3-windows": {
        "type": "qwen3", "seed": 216, "targets": ["v_proj", "o_proj"], "rslora": False,
        "config": {"head_dim": 6, "use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1, "attention_bias": True},
    },
    "smollm3": {
        "type": "smollm3", "seed": 217, "targets": ["q_proj", "v_proj"], "rslora": False,
        "config": {"no_rope_layers": [1, 0], "tie_word_embeddings": True, "mlp_bias": True},
    },
}
# Sequences classified by their last token; the padding has a token of its own.
CLASSIFIERS = {
    "llama-classifier": {"type": "llama", "seed": 221, "targets": ["q_proj", "v_proj"], "rslora": False, "config": {}},
    "gpt2-classifier": {"type": "gpt2", "seed": 222, "targets": ["c_attn"], "rslora": False, "config": GPT2},
    "gemma2-classifier": {"type": "gemma2", "seed": 223, "targets": ["down_proj"], "rslora": False, "config": GEMMA2},
    "neox-classifier": {"type": "gpt_neox", "seed": 224, "targets": ["dense"], "rslora": False, "config": NEOX},
}
LABELS = 3


def shape_of(options):
    """The keys of config.json that shape the model."""
    if options["type"] == "gpt2":
        return {key: SHAPE[key] for key in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")} | options["config"]
    return SHAPE | options["config"]


def middle_of(name, options):
    """What the values of a parameter lie around."""
    is_gain = name.endswith("weight") and ("norm" in name or ".ln_" in name)
    # Gemma's gains are stored less one. All that Llama calls a norm is a gain; a layer norm's shift lies around zero.
    return 1.0 if is_gain and not options["type"].startswith("gemma") else 0.0


def make_model(options):
    torch.manual_seed(options["seed"])
    is_classifier = options.get("task") == "cls"
    more = {"num_labels": LABELS, "pad_token_id": 0} if is_classifier else {}
    config = AutoConfig.for_model(options["type"], **(shape_of(options) | more))
    config._attn_implementation = "eager"
    model = (AutoModelForSequenceClassification if is_classifier else AutoModelForCausalLM).from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.4 if parameter.ndim == 2 else 0.2
            parameter.copy_(torch.randn(parameter.shape) * scale + middle_of(name, options))
    return model.float().eval()


def adapt(model, options):
    config = LoraConfig(
        r=2, lora_alpha=4, use_rslora=options["rslora"], target_modules=options["targets"], lora_dropout=0.0,
        fan_in_fan_out=options["type"] == "gpt2", modules_to_save=["score"] if options.get("task") == "cls" else None,
    )
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.copy_(torch.randn(parameter.shape) * 0.3)
    return adapted.eval()


def make_batches(options):
    seed, length, size = options["seed"] + 1000, options.get("length", LENGTH), options.get("batch", BATCH)
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(3):
        lengths = torch.randint(4, length + 1, (size,), generator=generator)
        lengths[int(torch.randint(size, (1,), generator=generator))] = length
        ids = torch.randint(3, VOCABULARY, (size, length), generator=generator)
        mask = (torch.arange(length) < lengths.unsqueeze(1)).long()
        # The first tokens are a prompt that is not to be predicted.
        prompt = torch.randint(1, 3, (size, 1), generator=generator)
        labels = torch.where((torch.arange(length) >= prompt) & (mask == 1), ids, -100)
        batch = {"input_ids": ids * mask, "attention_mask": mask, "labels": labels}
        if options.get("task") == "cls":
            batch["token_type_ids"] = 0 * mask
            batch["labels"] = torch.randint(LABELS, (size,), generator=generator)
        batches.append(batch)
    return batches


def loss_of(model, batch):
    # No token sees the padding, which is right of it. With a mask a padded row under a short window would see nothing, and be NaN.
    logits = model(input_ids=batch["input_ids"]).logits
    if batch["labels"].ndim == 1:
        return torch.nn.functional.cross_entropy(logits, batch["labels"])
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, VOCABULARY), batch["labels"][:, 1:].reshape(-1), ignore_index=-100)


def plain_name(name):
    return name.removeprefix("base_model.model.").replace(".default", "").replace(".modules_to_save", "")


def trained(model):
    return {plain_name(name): parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def compute(options, batches, precision):
    """All expected tensors in one precision; the same random draws each time."""
    model = make_model(options)
    config = model.config.to_diff_dict()
    base = {name: value.clone() for name, value in model.state_dict().items()}
    adapted = adapt(model, options)
    adapter = {plain_name(name): value.clone() for name, value in get_peft_model_state_dict(adapted).items()}
    adapted = adapted.to(precision)
    batch, result = batches[0], {}
    inputs = {"input_ids": batch["input_ids"]}
    kept = batch["attention_mask"].unsqueeze(-1)
    with torch.no_grad(), adapted.disable_adapter():
        output = adapted(**inputs, output_hidden_states=True)
        for index, hidden in enumerate(output.hidden_states):
            result[f"base.hidden.{index}"] = hidden * kept
        if options.get("task") != "cls":
            result["base.logits"], result["base.loss"] = output.logits * kept, loss_of(adapted, batch)
    adapted.zero_grad()
    loss = loss_of(adapted, batch)
    loss.backward()
    result["lora.logits"], result["lora.loss"] = adapted(**inputs).logits * (1 if options.get("task") == "cls" else kept), loss
    for name, parameter in trained(adapted).items():
        result[f"grad.{name}"] = parameter.grad.clone()
    norms, losses = [], []
    for example in range(options.get("batch", BATCH)):
        adapted.zero_grad()
        own = loss_of(adapted, {key: value[example : example + 1] for key, value in batch.items()})
        own.backward()
        losses.append(own.detach())
        norms.append(sum(p.grad.pow(2).sum() for p in trained(adapted).values()).sqrt())
    result["dp.norms"], result["dp.losses"] = torch.stack(norms), torch.stack(losses)
    start = {name: value.detach().clone() for name, value in trained(adapted).items()}
    for kind in ("sgd", "adamw"):
        parameters = trained(adapted)
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(start[name])
        if kind == "sgd":
            optimizer = torch.optim.SGD(parameters.values(), lr=SGD["lr"])
        else:
            optimizer = torch.optim.AdamW(
                parameters.values(), lr=ADAMW["lr"], betas=tuple(ADAMW["betas"]), eps=ADAMW["eps"],
                weight_decay=ADAMW["weight_decay"])
        losses = []
        for each in batches:
            optimizer.zero_grad()
            loss = loss_of(adapted, each)
            losses.append(loss.detach())
            loss.backward()
            optimizer.step()
        result[f"{kind}.losses"] = torch.stack(losses)
        for name, parameter in parameters.items():
            result[f"{kind}.after3.{name}"] = parameter.detach().clone()
    with torch.no_grad():
        for name, parameter in trained(adapted).items():
            parameter.copy_(start[name])
        merged = adapted.merge_and_unload()(**inputs).logits
        if options.get("task") != "cls":
            result["merged.logits"] = merged * kept
    return config, base, adapter, {name: value.detach() for name, value in result.items()}


def write(folder, options):
    name = folder.name
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "model").mkdir(parents=True)
    (folder / "adapter").mkdir()
    batches = make_batches(options)
    config, base, adapter, exact = compute(options, batches, torch.float64)
    _, _, _, single = compute(options, batches, torch.float32)
    weights = {key: value.float().contiguous() for key, value in base.items()}
    if config.get("tie_word_embeddings") or options["config"].get("tie_word_embeddings"):
        weights.pop("lm_head.weight", None)
    save_file(weights, folder / "model" / "model.safetensors", metadata={"format": "pt"})
    told = json.loads(json.dumps(config | shape_of(options) | {"model_type": options["type"]}))
    told.pop("_attn_implementation", None)
    (folder / "model" / "config.json").write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
    saved = {f"base_model.model.{key}": value.float().contiguous() for key, value in adapter.items()}
    save_file(saved, folder / "adapter" / "adapter_model.safetensors", metadata={"format": "pt"})
    is_classifier = options.get("task") == "cls"
    adapter_config = {
        "alpha_pattern": {}, "base_model_name_or_path": None, "bias": "none", "exclude_modules": None, "fan_in_fan_out": options["type"] == "gpt2",
        "inference_mode": True, "init_lora_weights": True, "layers_pattern": None, "layers_to_transform": None,
        "lora_alpha": 4, "lora_dropout": 0.0, "modules_to_save": ["score"] if is_classifier else None, "peft_type": "LORA", "r": 2, "rank_pattern": {},
        "revision": None, "target_modules": sorted(options["targets"]), "task_type": "SEQ_CLS" if is_classifier else "CAUSAL_LM", "use_dora": False,
        "use_rslora": options["rslora"],
    }
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(adapter_config, indent=1) + "\n")
    inputs = {f"{i}.{key}": value.to(torch.int32) for i, batch in enumerate(batches) for key, value in batch.items()}
    save_file(inputs, folder / "inputs.safetensors")
    save_file({key: value.float().contiguous() for key, value in exact.items()}, folder / "expected.safetensors")
    oracle = {
        "name": name, "model_type": options["type"], "task": options.get("task", "lm"), "seed": options["seed"],
        "trained": sorted(key.removeprefix("grad.") for key in exact if key.startswith("grad.")),
        "optim": {"sgd": SGD, "adamw": ADAMW}, "loss": "mean cross-entropy over the labels of the batch",
        "max_abs": {key: value.abs().max().item() for key, value in sorted(exact.items())},
        "torch_fp32_err": {key: (single[key].double() - value).abs().max().item() for key, value in sorted(exact.items())},
    }
    if is_classifier:
        oracle["pooling"] = "last"
    (folder / "oracle.json").write_text(json.dumps(oracle, indent=1) + "\n")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{name}: {size} bytes, {len(oracle['trained'])} trained tensors, greatest float32 error {max(oracle['torch_fp32_err'].values()):.1e}")


def main():
    torch.set_num_threads(1)
    wanted = sys.argv[1:]
    everything = [(OUT / name, options) for name, options in FIXTURES.items()]
    everything += [
        (OUT.parent / "decoder-classifiers" / name, options | {"task": "cls"}) for name, options in CLASSIFIERS.items()
    ]
    for folder, options in everything:
        if not wanted or folder.name in wanted:
            write(folder, options)


if __name__ == "__main__":
    main()
