"""Checks with PyTorch and PEFT that the embedded encoder and data set make a task worth fine-tuning for.

    python3 Simulations/Scripts/check_embedded.py [--steps 400] [--targets query,value] [--seeds 0,1,2]

Prints the majority baseline, a logistic regression on frozen mean-pooled features, and LoRA (r = 8, alpha = 16, masked mean
pooling and a linear head, AdamW) after some hundred steps of batch 32, all as test accuracy.
"""

import argparse
import collections
import json
import pathlib
import statistics
import time

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel


def read_tsv(path):
    lines = path.read_text(encoding="utf-8").split("\n")[1:]
    return [tuple(line.split("\t")) for line in lines if line]


def load_encoder(folder):
    config = BertConfig(**json.loads((folder / "config.json").read_text()))
    model = BertModel(config, add_pooling_layer=False)
    weights = {k: v.float() for k, v in load_file(folder / "model.safetensors").items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and all("position_ids" in k for k in missing), (missing, unexpected)
    return model


def encode(tokenizer, rows, labels):
    ids = [torch.tensor(e.ids) for e in tokenizer.encode_batch([text for _, text in rows])]
    return ids, torch.tensor([labels.index(label) for label, _ in rows])


def batch(ids):
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    return padded, torch.nn.utils.rnn.pad_sequence([torch.ones_like(i) for i in ids], batch_first=True)


def mean_pooled(model, ids, mask):
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    weights = mask.unsqueeze(-1).float()
    return (hidden * weights).sum(1) / weights.sum(1)


def features(model, ids):
    with torch.no_grad():
        return torch.cat([mean_pooled(model, *batch(ids[i : i + 100])) for i in range(0, len(ids), 100)])


def logistic_regression(train_x, train_y, test_x, test_y, classes):
    """Best test accuracy over a range of L2 penalties, in the baseline's favour."""
    mean, deviation = train_x.mean(0), train_x.std(0) + 1e-6
    train_x, test_x = (train_x - mean) / deviation, (test_x - mean) / deviation
    best = 0.0
    for penalty in (1e-4, 1e-3, 1e-2):
        head = torch.nn.Linear(train_x.shape[1], classes)
        optimizer = torch.optim.LBFGS(head.parameters(), max_iter=300, line_search_fn="strong_wolfe")

        def closure():
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(head(train_x), train_y) + penalty * head.weight.pow(2).sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        best = max(best, (head(test_x).argmax(1) == test_y).float().mean().item())
    return best


def lora(folder, train, test, classes, targets, steps, rate, head_rate, seed, every, only_b):
    torch.manual_seed(seed)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=targets)
    model = get_peft_model(load_encoder(folder), config)
    if only_b:
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                # Orthonormal rows, as FedSVD's first A has them.
                torch.nn.init.orthogonal_(parameter)
                parameter.requires_grad_(False)
    head = torch.nn.Linear(model.config.hidden_size, classes)
    torch.nn.init.normal_(head.weight, std=0.02)
    torch.nn.init.zeros_(head.bias)
    adapted = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW([{"params": adapted, "lr": rate}, {"params": head.parameters(), "lr": head_rate}])
    curve, order = [], []
    began = time.process_time()
    for step in range(1, steps + 1):
        while len(order) < 32:
            order += torch.randperm(len(train[0])).tolist()
        chosen, order = order[:32], order[32:]
        logits = head(mean_pooled(model, *batch([train[0][i] for i in chosen])))
        loss = torch.nn.functional.cross_entropy(logits, train[1][chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % every == 0 or step == steps:
            predicted = head(features(model, test[0])).argmax(1)
            curve.append((step, (predicted == test[1]).float().mean().item()))
    return sum(p.numel() for p in adapted), curve, (time.process_time() - began) / steps


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = pathlib.Path(__file__).resolve().parent.parent / "Embedded"
    parser.add_argument("--encoder", type=pathlib.Path, default=here / "encoder")
    parser.add_argument("--data", type=pathlib.Path, default=here / "data")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--targets", default="query,value")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--head-lr", type=float, default=5e-3)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--only-b", action="store_true", help="A stays at an orthonormal start, as in FFA-LoRA and FedSVD")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)

    tokenizer = Tokenizer.from_file(str(options.encoder / "tokenizer.json"))
    train_rows, test_rows = read_tsv(options.data / "train.tsv"), read_tsv(options.data / "test.tsv")
    assert not {t for _, t in train_rows} & {t for _, t in test_rows}
    labels = sorted({label for label, _ in train_rows})
    train, test = encode(tokenizer, train_rows, labels), encode(tokenizer, test_rows, labels)
    lengths = sorted(len(i) for i in train[0])
    print(f"{len(train_rows)} train, {len(test_rows)} test, labels {labels}")
    print(f"tokens per ticket: median {lengths[len(lengths) // 2]}, max {lengths[-1]}")
    majority = collections.Counter(label for label, _ in train_rows).most_common(1)[0][0]
    print(f"majority {sum(label == majority for label, _ in test_rows) / len(test_rows):.3f}")
    model = load_encoder(options.encoder).eval()
    frozen = logistic_regression(features(model, train[0]), train[1], features(model, test[0]), test[1], len(labels))
    print(f"frozen encoder + logistic regression {frozen:.3f}", flush=True)
    final = []
    for seed in map(int, options.seeds.split(",")):
        count, curve, seconds = lora(
            options.encoder, train, test, len(labels), options.targets.split(","), options.steps, options.lr,
            options.head_lr, seed, options.every, options.only_b,
        )
        final.append(curve[-1][1])
        points = " ".join(f"{step}:{accuracy:.3f}" for step, accuracy in curve)
        print(f"lora {options.targets}{' B only' if options.only_b else ''} ({count} parameters) seed {seed}: {points}; {seconds * 1e3:.0f} ms a step", flush=True)
    print(f"lora mean {statistics.mean(final):.3f}")


if __name__ == "__main__":
    main()
