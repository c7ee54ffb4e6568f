"""Writes Tests/EngineTests/Fixtures/bert: small random BERTs and encoders like it with LoRA, and what transformers, peft and PyTorch compute.

    python3 Tests/Oracles/make_bert_fixtures.py

Deterministic. All results are computed in float64 and stored as float32. For each fixture a folder:

    model/config.json, model/model.safetensors       the base model
    adapter/adapter_config.json, adapter_model.safetensors   as peft saves them; A and B non-zero, the trained head beside
    inputs.safetensors      batches 0, 1, 2: input_ids, attention_mask, token_type_ids (batch, length), labels, all I32,
                            right padded
    expected.safetensors    base.hidden.N, base.logits, base.loss; lora.logits, lora.loss, merged.logits; grad.*;
                            sgd.after3.*, sgd.losses, adamw.after3.*, adamw.losses; dp.norms, dp.losses
    oracle.json             the options, the optimisers' constants, and for each tensor its greatest absolute value and the
                            error that PyTorch makes in float32

base.*, lora.*, grad.* and dp.* are of batch 0; the optimisers take batches 0, 1, 2 in turn, and a loss is before its step.
Names of gradients and adapters are those of adapter_model.safetensors without `base_model.model.`. The base results use the
base model's own head where it has one, else the adapter's. dp.norms are the norms of the single examples' gradients over all
trained tensors, the head included.

    prefixed   pooler and classifier, names with `bert.`; LoRA on query and value
    bare       the same, names without the prefix, the classifier only beside the adapter
    mean       masked mean of the last hidden state and a linear head, no pooler, no prefix; rsLoRA on query, key, value and
               dense (that is attention.output.dense, intermediate.dense and output.dense)
    roberta    RoBERTa: mean pooling, LoRA on query, key and dense; its positions begin at 2
    electra    ELECTRA: mean pooling, LoRA on value and dense
    distilbert DistilBERT: mean pooling, LoRA on q_lin, out_lin and lin1; no token types
"""

import json
import pathlib
import shutil

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel, BertForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutput

OUT = pathlib.Path(__file__).resolve().parents[1] / "EngineTests" / "Fixtures" / "bert"
VOCABULARY, LABELS, LENGTH, BATCH = 60, 3, 9, 4
SGD = {"lr": 0.02}
ADAMW = {"lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01}


class EncoderWithMeanPooling(torch.nn.Module):
    """The masked mean of the last hidden state and a linear head."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        options = {} if config.model_type in ("distilbert", "electra") else {"add_pooling_layer": False}
        setattr(self, config.model_type, AutoModel.from_config(config, **options))
        self.classifier = torch.nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, input_ids, attention_mask, token_type_ids, **options):
        types = {} if self.config.model_type == "distilbert" else {"token_type_ids": token_type_ids}
        output = getattr(self, self.config.model_type)(
            input_ids=input_ids, attention_mask=attention_mask,
            output_hidden_states=options.get("output_hidden_states", False), **types,
        )
        weights = attention_mask.unsqueeze(-1).to(output.last_hidden_state.dtype)
        pooled = (output.last_hidden_state * weights).sum(1) / weights.sum(1)
        return SequenceClassifierOutput(logits=self.classifier(pooled), hidden_states=output.hidden_states)


FIXTURES = {
    "prefixed": {"seed": 101, "pooling": "pooler", "prefix": True, "rslora": False, "targets": ["query", "value"], "r": 4, "alpha": 8},
    "bare": {"seed": 102, "pooling": "pooler", "prefix": False, "rslora": False, "targets": ["query", "value"], "r": 4, "alpha": 8},
    "mean": {"seed": 103, "pooling": "mean", "prefix": False, "rslora": True, "targets": ["query", "key", "value", "dense"], "r": 2, "alpha": 4},
    # Longer than the blocks of rows in which attention is formed.
    "long": {"seed": 107, "pooling": "mean", "prefix": True, "rslora": False, "targets": ["query", "key", "value"], "r": 2, "alpha": 4,
             "length": 150, "batch": 2, "config": {"max_position_embeddings": 160}},
    "roberta": {"type": "roberta", "seed": 104, "pooling": "mean", "prefix": True, "rslora": False, "targets": ["query", "key", "dense"], "r": 2, "alpha": 4,
                "config": {"type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5}},
    "electra": {"type": "electra", "seed": 105, "pooling": "mean", "prefix": True, "rslora": False, "targets": ["value", "dense"], "r": 2, "alpha": 4,
                "config": {"embedding_size": 16}},
    "distilbert": {"type": "distilbert", "seed": 106, "pooling": "mean", "prefix": True, "rslora": False, "targets": ["q_lin", "out_lin", "lin1"], "r": 2,
                   "alpha": 4, "config": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "dropout": 0.0, "attention_dropout": 0.0}},
}


def configuration(options):
    """The keys of config.json that shape the model."""
    shape = {
        "vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
        "max_position_embeddings": 24, "type_vocab_size": 2, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        "pad_token_id": 0,
    }
    if options.get("type") == "distilbert":
        shape = {key: shape[key] for key in ("vocab_size", "max_position_embeddings", "pad_token_id")}
    return shape | options.get("config", {})


def make_model(options):
    torch.manual_seed(options["seed"])
    config = AutoConfig.for_model(options.get("type", "bert"), **configuration(options), num_labels=LABELS)
    make = EncoderWithMeanPooling if options["pooling"] == "mean" else BertForSequenceClassification
    model = make(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.4 if parameter.ndim == 2 else 0.2
            parameter.copy_(torch.randn(parameter.shape) * scale + (1.0 if name.lower().endswith(("layernorm.weight", "layer_norm.weight")) else 0.0))
    # The float64 reference starts from the values that the float32 files hold.
    return model.float().eval()


def adapt(model, options):
    config = LoraConfig(
        r=options["r"], lora_alpha=options["alpha"], use_rslora=options["rslora"], target_modules=options["targets"],
        modules_to_save=["classifier"], lora_dropout=0.0,
    )
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.copy_(torch.randn(parameter.shape) * 0.3)
    return adapted.eval()


def make_batches(options):
    seed, padding = options["seed"] + 1000, configuration(options)["pad_token_id"]
    types = options.get("config", {}).get("type_vocab_size", 2)
    length, size = options.get("length", LENGTH), options.get("batch", BATCH)
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(3):
        lengths = torch.randint(3, length + 1, (size,), generator=generator)
        lengths[int(torch.randint(size, (1,), generator=generator))] = length
        ids = torch.randint(5, VOCABULARY, (size, length), generator=generator)  # no special token
        mask = (torch.arange(length) < lengths.unsqueeze(1)).long()
        second = (torch.arange(length) >= (lengths.unsqueeze(1) + 1) // 2).long()
        batches.append({
            "input_ids": ids * mask + padding * (1 - mask), "attention_mask": mask,
            "token_type_ids": second * mask if types > 1 and options.get("type") != "distilbert" else 0 * mask,
            "labels": torch.randint(LABELS, (size,), generator=generator),
        })
    return batches


def logits_of(model, batch, **options):
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    return model(**inputs, **options)


def loss_of(model, batch):
    return torch.nn.functional.cross_entropy(logits_of(model, batch).logits, batch["labels"])


def plain_name(name):
    return name.removeprefix("base_model.model.").replace(".default", "").replace(".modules_to_save", "")


def trained(model, options):
    return {file_name(plain_name(n), options): p for n, p in model.named_parameters() if p.requires_grad}


def file_name(name, options):
    return name if options["prefix"] else name.removeprefix("bert.")


def compute(options, batches, precision):
    """All expected tensors in one precision; the same random draws each time."""
    model = make_model(options)
    base_state = {name: value.clone() for name, value in model.state_dict().items()}
    adapted = adapt(model, options)
    adapter = {
        plain_name(name): value.clone() for name, value in get_peft_model_state_dict(adapted).items()
    }
    adapted = adapted.to(precision)
    result = {}
    batch = batches[0]
    with torch.no_grad(), adapted.disable_adapter():
        if not options["prefix"]:
            # The base model has no head of its own: its results are told with the adapter's.
            adapted.base_model.model.classifier.original_module.load_state_dict(
                adapted.base_model.model.classifier.modules_to_save["default"].state_dict())
        output = logits_of(adapted, batch, output_hidden_states=True)
        for index, hidden in enumerate(output.hidden_states):
            # What stands at padded positions means nothing.
            result[f"base.hidden.{index}"] = hidden * batch["attention_mask"].unsqueeze(-1)
        result["base.logits"] = output.logits
        result["base.loss"] = torch.nn.functional.cross_entropy(output.logits, batch["labels"])
    output = logits_of(adapted, batch)
    loss = torch.nn.functional.cross_entropy(output.logits, batch["labels"])
    adapted.zero_grad()
    loss.backward()
    result["lora.logits"], result["lora.loss"] = output.logits, loss
    for name, parameter in trained(adapted, options).items():
        result[f"grad.{name}"] = parameter.grad.clone()
    norms, losses = [], []
    for example in range(options.get("batch", BATCH)):
        adapted.zero_grad()
        own = loss_of(adapted, {key: value[example : example + 1] for key, value in batch.items()})
        own.backward()
        losses.append(own.detach())
        norms.append(sum(p.grad.pow(2).sum() for p in trained(adapted, options).values()).sqrt())
    result["dp.norms"], result["dp.losses"] = torch.stack(norms), torch.stack(losses)
    start = {name: value.detach().clone() for name, value in trained(adapted, options).items()}
    for kind in ("sgd", "adamw"):
        parameters = trained(adapted, options)
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
        for name, parameter in trained(adapted, options).items():
            parameter.copy_(start[name])
        merged = adapted.merge_and_unload()
        result["merged.logits"] = logits_of(merged, batch).logits
    result = {name: value.detach() for name, value in result.items()}
    return base_state, adapter, result


def check_by_hand(options, base, adapter, batches, expected):
    """The merged logits again, from W + scale B A computed here rather than by peft."""
    model = make_model(options).double()
    scale = options["alpha"] / (options["r"] ** 0.5 if options["rslora"] else options["r"])
    state = {name: value.double() for name, value in base.items()}
    for name in list(adapter):
        if name.endswith("lora_A.weight"):
            module = name.removesuffix(".lora_A.weight")
            product = adapter[f"{module}.lora_B.weight"].double() @ adapter[name].double()
            state[f"{module}.weight"] = state[f"{module}.weight"] + scale * product
        elif "classifier" in name:
            state[name] = adapter[name].double()
    model.load_state_dict(state)
    with torch.no_grad():
        error = (logits_of(model, batches[0]).logits - expected["merged.logits"]).abs().max().item()
    assert error < 1e-12, error


def write(name, options):
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "model").mkdir(parents=True)
    (folder / "adapter").mkdir()
    batches = make_batches(options)
    base, adapter, exact = compute(options, batches, torch.float64)
    _, _, single = compute(options, batches, torch.float32)
    check_by_hand(options, base, adapter, batches, exact)

    weights = {
        file_name(key, options): value.float().contiguous()
        for key, value in base.items()
        if "_ids" not in key and (options["prefix"] and options["pooling"] == "pooler" or not key.startswith("classifier"))
    }
    save_file(weights, folder / "model" / "model.safetensors", metadata={"format": "pt"})
    own_head = options["prefix"] and options["pooling"] == "pooler"
    config = {
        "architectures": ["BertForSequenceClassification" if own_head else "BertModel"], "hidden_act": "gelu",
        "initializer_range": 0.02, "layer_norm_eps": 1e-12, "model_type": "bert",
    } | configuration(options)
    if "type" in options:
        config |= {"architectures": [type(getattr(make_model(options), options["type"])).__name__], "model_type": options["type"]}
    if own_head:
        config["id2label"] = {str(index): f"LABEL_{index}" for index in range(LABELS)}
        config["label2id"] = {f"LABEL_{index}": index for index in range(LABELS)}
    (folder / "model" / "config.json").write_text(json.dumps(config, indent=1) + "\n")

    saved = {f"base_model.model.{file_name(key, options)}": value.float().contiguous() for key, value in adapter.items()}
    save_file(saved, folder / "adapter" / "adapter_model.safetensors", metadata={"format": "pt"})
    adapter_config = {
        "alpha_pattern": {}, "base_model_name_or_path": None, "bias": "none",
        "exclude_modules": None, "fan_in_fan_out": False,
        "inference_mode": True, "init_lora_weights": True, "layers_pattern": None, "layers_to_transform": None,
        "lora_alpha": options["alpha"], "lora_dropout": 0.0, "modules_to_save": ["classifier"], "peft_type": "LORA",
        "r": options["r"], "rank_pattern": {}, "revision": None, "target_modules": sorted(options["targets"]),
        "task_type": "SEQ_CLS" if own_head else None, "use_dora": False, "use_rslora": options["rslora"],
    }
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(adapter_config, indent=1) + "\n")

    inputs = {f"{i}.{key}": value.to(torch.int32) for i, batch in enumerate(batches) for key, value in batch.items()}
    save_file(inputs, folder / "inputs.safetensors")
    save_file({key: value.float().contiguous() for key, value in exact.items()}, folder / "expected.safetensors")
    oracle = {
        "name": name, "model_type": options.get("type", "bert"), "task": "cls", "seed": options["seed"], "pooling": options["pooling"],
        "labels": LABELS, "trained": sorted(key.removeprefix("grad.") for key in exact if key.startswith("grad.")),
        "lora": {
            "r": options["r"], "lora_alpha": options["alpha"], "use_rslora": options["rslora"],
            "target_modules": sorted(options["targets"]),
        },
        "optim": {"sgd": SGD, "adamw": ADAMW}, "loss": "mean cross-entropy over the batch",
        "max_abs": {key: value.abs().max().item() for key, value in sorted(exact.items())},
        "torch_fp32_err": {
            key: (single[key].double() - value).abs().max().item() for key, value in sorted(exact.items())
        },
    }
    (folder / "oracle.json").write_text(json.dumps(oracle, indent=1) + "\n")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{name}: {size} bytes, {len(oracle['trained'])} trained tensors, greatest float32 error {max(oracle['torch_fp32_err'].values()):.1e}")


def main():
    torch.set_num_threads(1)
    for name, options in FIXTURES.items():
        write(name, options)


if __name__ == "__main__":
    main()
