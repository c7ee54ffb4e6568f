"""Writes Tests/EngineTests/Fixtures/regression and dense-heads: small random models with LoRA, and what transformers, peft and PyTorch make of them.

    python3 Tests/Oracles/make_head_fixtures.py

The models are transformers' own sequence classifiers, and the loss is theirs. Files and names are those of make_bert_fixtures.py, without
base.* and merged.*.

regression has one output (`num_labels` 1, `problem_type` regression); inputs hold `values` (F32) in the place of labels:

    bert     pooler and classifier; LoRA on query and value
    llama    the last token and `score`; LoRA on q_proj and down_proj

dense-heads has three classes, and a dense layer between the first token and the logits that is trained with them:

    roberta     classifier.dense, tanh, classifier.out_proj
    electra     classifier.dense, GELU, classifier.out_proj
    distilbert  pre_classifier, ReLU, classifier
"""

import json
import pathlib
import shutil

import torch
from make_bert_fixtures import ADAMW, BATCH, LENGTH, SGD, VOCABULARY, plain_name
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForSequenceClassification

OUT = pathlib.Path(__file__).resolve().parents[1] / "EngineTests" / "Fixtures"
LABELS = 3

ENCODER = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 24,
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}

FIXTURES = {
    "regression/bert": {"seed": 401, "targets": ["query", "value"], "head": ["classifier"], "pooling": "pooler", "types": 2,
                        "config": ENCODER | {"type_vocab_size": 2}},
    "regression/llama": {"seed": 402, "targets": ["q_proj", "down_proj"], "head": ["score"], "pooling": "last", "types": 1, "config": {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 24,
        "max_position_embeddings": 24, "tie_word_embeddings": False}},
    "dense-heads/roberta": {"seed": 403, "targets": ["query", "value"], "head": ["classifier"], "pooling": "dense", "types": 1, "pad": 1,
                            "config": ENCODER | {"type_vocab_size": 1, "layer_norm_eps": 1e-5}},
    "dense-heads/electra": {"seed": 404, "targets": ["query", "value"], "head": ["classifier"], "pooling": "dense", "types": 2,
                            "config": ENCODER | {"type_vocab_size": 2, "embedding_size": 16}},
    "dense-heads/distilbert": {"seed": 405, "targets": ["q_lin", "lin1"], "head": ["pre_classifier", "classifier"], "pooling": "dense",
                               "types": 1, "config": {
                                   "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "dropout": 0.0, "attention_dropout": 0.0,
                                   "seq_classif_dropout": 0.0, "max_position_embeddings": 24}},
}


def make(name, options):
    torch.manual_seed(options["seed"])
    config = AutoConfig.for_model(
        name.split("/")[1], **options["config"], vocab_size=VOCABULARY, pad_token_id=options.get("pad", 0),
        **({"num_labels": 1, "problem_type": "regression"} if name.startswith("regression") else {"num_labels": LABELS}))
    model = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            scale = 0.4 if parameter.ndim == 2 else 0.2
            parameter.copy_(torch.randn(parameter.shape) * scale + (1.0 if "norm.weight" in key.lower().replace("_", "") else 0.0))
    model = model.float().eval()
    base = {key: value.clone() for key, value in model.state_dict().items()}
    adapted = get_peft_model(model, LoraConfig(
        r=2, lora_alpha=4, lora_dropout=0.0, target_modules=options["targets"], task_type="SEQ_CLS",
        modules_to_save=options["head"]))
    with torch.no_grad():
        for key, parameter in adapted.named_parameters():
            if "lora_" in key or "modules_to_save" in key:
                parameter.copy_(torch.randn(parameter.shape) * 0.3)
    return base, adapted.eval(), config


def batches(name, options):
    generator = torch.Generator().manual_seed(options["seed"] + 1000)
    result = []
    for _ in range(3):
        lengths = torch.randint(3, LENGTH + 1, (BATCH,), generator=generator)
        mask = (torch.arange(LENGTH) < lengths.unsqueeze(1)).long()
        ids = torch.randint(5, VOCABULARY, (BATCH, LENGTH), generator=generator) * mask + options.get("pad", 0) * (1 - mask)
        types = (torch.arange(LENGTH) >= (lengths.unsqueeze(1) + 1) // 2).long() * mask if options["types"] > 1 else 0 * mask
        result.append({
            "input_ids": ids, "attention_mask": mask, "token_type_ids": types,
            **({"values": (torch.rand(BATCH, generator=generator) * 5).float()} if name.startswith("regression")
               else {"labels": torch.randint(LABELS, (BATCH,), generator=generator)}),
        })
    return result


def main():
    torch.set_num_threads(1)
    for name, options in FIXTURES.items():
        folder = OUT / name
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "model").mkdir(parents=True)
        (folder / "adapter").mkdir()
        base, adapted, config = make(name, options)
        adapter = {plain_name(key): value.clone() for key, value in get_peft_model_state_dict(adapted).items()}
        adapted = adapted.double()
        each = batches(name, options)

        def output(batch, rows=slice(None)):
            inputs = {"input_ids": batch["input_ids"][rows], "attention_mask": batch["attention_mask"][rows]}
            if options["types"] > 1:
                inputs["token_type_ids"] = batch["token_type_ids"][rows]
            wanted = batch["values"][rows].double() if "values" in batch else batch["labels"][rows]
            return adapted(**inputs, labels=wanted)

        trained = {plain_name(key): value for key, value in adapted.named_parameters() if value.requires_grad}
        start = {key: value.detach().clone() for key, value in trained.items()}
        result = {}
        found = output(each[0])
        found.loss.backward()
        result["lora.logits"], result["lora.loss"] = found.logits, found.loss
        result |= {f"grad.{key}": value.grad.clone() for key, value in trained.items()}
        norms = []
        for row in range(BATCH):
            adapted.zero_grad()
            output(each[0], slice(row, row + 1)).loss.backward()
            norms.append(sum(value.grad.pow(2).sum() for value in trained.values()).sqrt())
        result["dp.norms"] = torch.stack(norms)
        for kind in ("sgd", "adamw"):
            with torch.no_grad():
                for key, value in trained.items():
                    value.copy_(start[key])
            optimizer = torch.optim.SGD(trained.values(), lr=SGD["lr"]) if kind == "sgd" else torch.optim.AdamW(
                trained.values(), lr=ADAMW["lr"], betas=tuple(ADAMW["betas"]), eps=ADAMW["eps"], weight_decay=ADAMW["weight_decay"])
            losses = []
            for batch in each:
                optimizer.zero_grad()
                loss = output(batch).loss
                losses.append(loss.detach())
                loss.backward()
                optimizer.step()
            result[f"{kind}.losses"] = torch.stack(losses)
            result |= {f"{kind}.after3.{key}": value.detach().clone() for key, value in trained.items()}

        weights = {key: value.contiguous() for key, value in base.items() if "_ids" not in key and not key.startswith(tuple(options["head"]))}
        save_file(weights, folder / "model" / "model.safetensors", metadata={"format": "pt"})
        shape = {key: value for key, value in config.to_dict().items() if key in options["config"] or key in (
            "model_type", "vocab_size", "pad_token_id", "hidden_act", "layer_norm_eps", "rms_norm_eps", "rope_parameters", "activation")}
        (folder / "model" / "config.json").write_text(json.dumps(shape, indent=1) + "\n")
        save_file({f"base_model.model.{key}": value.float().contiguous() for key, value in adapter.items()},
                  folder / "adapter" / "adapter_model.safetensors", metadata={"format": "pt"})
        (folder / "adapter" / "adapter_config.json").write_text(json.dumps({
            "base_model_name_or_path": None, "bias": "none", "fan_in_fan_out": False, "lora_alpha": 4, "lora_dropout": 0.0,
            "modules_to_save": options["head"], "peft_type": "LORA", "r": 2, "target_modules": sorted(options["targets"]),
            "task_type": "SEQ_CLS", "use_rslora": False}, indent=1) + "\n")
        inputs = {f"{index}.{key}": value if key == "values" else value.to(torch.int32)
                  for index, batch in enumerate(each) for key, value in batch.items()}
        save_file(inputs, folder / "inputs.safetensors")
        save_file({key: value.detach().float().contiguous() for key, value in result.items()}, folder / "expected.safetensors")
        (folder / "oracle.json").write_text(json.dumps({
            "name": name, "pooling": options["pooling"], "trained": sorted(trained), "optim": {"sgd": SGD, "adamw": ADAMW},
            "loss": "transformers' own"}, indent=1) + "\n")
        print(name, sorted(trained)[-3:], result["lora.loss"].item(), result["lora.logits"].flatten().tolist(), result["sgd.losses"].tolist())


if __name__ == "__main__":
    main()
