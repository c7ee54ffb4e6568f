"""Pretrains the embedded encoder: a small BERT, by masked-language modelling, on text that every Debian machine can fetch.

    apt-get -o Acquire::Languages=en -o Dir::State::Lists=LISTS update      (LISTS: an empty folder with a folder `partial`)
    python3 Simulations/Scripts/pretrain_encoder.py --apt-lists LISTS

The text is the long package descriptions of Debian main (`Translation-en`), beside unlabelled sentences from our own
ticket grammar, as domain-adaptive pretraining does: tickets in the training wording, drawn with a seed of their own and
none of them in the test set, and notes on which things belong together. No label is seen.

Writes config.json, model.safetensors (F16, the encoder alone, no prefix) and tokenizer.json. A checkpoint is written every
500 steps; the run may be stopped at any time and continued with --resume.
"""

import argparse
import glob
import json
import math
import pathlib
import random
import re
import subprocess
import time

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForMaskedLM

import make_dataset
import ticket_grammar

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PAD, UNK, CLS, SEP, MASK = range(5)


def package_descriptions(folder):
    """Sentences of the long descriptions, each paragraph once, in the order of the files."""
    seen, sentences = set(), []
    for path in sorted(glob.glob(f"{folder}/*Translation-en*")):
        if path.endswith(".lz4"):
            text = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", path], capture_output=True, check=True).stdout
        else:
            text = pathlib.Path(path).read_bytes()
        for stanza in text.decode("utf-8", "replace").split("\n\n"):
            body = stanza.partition("Description-en: ")[2]
            for paragraph in re.split(r"\n \.\n", body):
                lines = paragraph.split("\n")
                prose = " ".join(line.strip() for line in lines if not line.startswith("  "))
                if prose in seen or len(prose) < 40 or not prose.isascii():
                    continue
                seen.add(prose)
                sentences += [s for s in re.split(r"(?<=[.!?:]) +", prose) if 20 <= len(s) <= 400 and s.count(" ") >= 3]
    return sentences


def domain_text(seed, tickets, notes, dataset_seed):
    _, test_rows = make_dataset.datasets(seed=dataset_seed)
    test = {text for _, text in test_rows}
    rows = [text for _, text in ticket_grammar.tickets(seed, tickets, exclude=test)]
    rng = random.Random(seed + 1)
    rows += [ticket_grammar.note(rng) for _ in range(notes)]
    rng.shuffle(rows)
    assert not test.intersection(rows)
    return rows


def train_tokenizer(texts, vocabulary):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    alphabet = [chr(c) for c in range(33, 127)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary, special_tokens=SPECIAL, limit_alphabet=100, initial_alphabet=alphabet, min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    return tokenizer


def pack(tokenizer, sentences, length):
    """Rows of `length` ids: consecutive sentences together while they fit, cut where one alone is too long."""
    rows, current = [], []
    for start in range(0, len(sentences), 20_000):
        for encoding in tokenizer.encode_batch(sentences[start : start + 20_000], add_special_tokens=False):
            ids = encoding.ids[: length - 2]
            if len(current) + len(ids) > length - 2:
                rows.append([CLS] + current + [SEP] + [PAD] * (length - 2 - len(current)))
                current = []
            current += ids
    return torch.tensor(rows, dtype=torch.int32)


def single(tokenizer, sentences, length):
    rows = []
    for encoding in tokenizer.encode_batch(sentences, add_special_tokens=False):
        ids = encoding.ids[: length - 2]
        rows.append([CLS] + ids + [SEP] + [PAD] * (length - 2 - len(ids)))
    return torch.tensor(rows, dtype=torch.int32)


def mask_tokens(rows, vocabulary, generator):
    """BERT's masking: 15 % of the tokens are asked for; 80 % of them hidden, 10 % replaced, 10 % left."""
    rows = rows.long()
    asked = (torch.rand(rows.shape, generator=generator) < 0.15) & (rows > MASK)
    choice = torch.rand(rows.shape, generator=generator)
    inputs = torch.where(asked & (choice < 0.8), torch.full_like(rows, MASK), rows)
    other = torch.randint(len(SPECIAL), vocabulary, rows.shape, generator=generator)
    inputs = torch.where(asked & (choice >= 0.8) & (choice < 0.9), other, inputs)
    return inputs, asked, rows[asked]


def loss_of(model, rows, vocabulary, generator):
    inputs, asked, wanted = mask_tokens(rows, vocabulary, generator)
    hidden = model.bert(input_ids=inputs, attention_mask=(rows != PAD).long()).last_hidden_state
    return torch.nn.functional.cross_entropy(model.cls(hidden[asked]).float(), wanted)


def unigram_loss(train_rows, held_rows, vocabulary):
    """Cross-entropy per token of the held-out rows under the training rows' token frequencies: what a model without
    context could reach."""
    counts = torch.bincount(train_rows[train_rows > MASK].long(), minlength=vocabulary).double() + 1
    return -(counts / counts.sum()).log()[held_rows[held_rows > MASK].long()].mean().item()


def save(model, tokenizer, out):
    out.mkdir(parents=True, exist_ok=True)
    weights = {
        name.removeprefix("bert."): tensor.detach().to(torch.float16).contiguous()
        for name, tensor in model.state_dict().items()
        if name.startswith("bert.") and "position_ids" not in name
    }
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    config = model.config
    keys = [
        "attention_probs_dropout_prob", "hidden_act", "hidden_dropout_prob", "hidden_size", "initializer_range",
        "intermediate_size", "layer_norm_eps", "max_position_embeddings", "model_type", "num_attention_heads",
        "num_hidden_layers", "pad_token_id", "type_vocab_size", "vocab_size",
    ]
    values = {"architectures": ["BertModel"], **{key: getattr(config, key) for key in keys}}
    values |= {"position_embedding_type": "absolute", "torch_dtype": "float16"}
    (out / "config.json").write_text(json.dumps(values, indent=2) + "\n")
    tokenizer.save(str(out / "tokenizer.json"))
    return sum(t.numel() for t in weights.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = pathlib.Path(__file__).resolve().parent.parent
    parser.add_argument("--apt-lists", default="/var/lib/apt/lists")
    parser.add_argument("--out", type=pathlib.Path, default=here / "Embedded" / "encoder")
    parser.add_argument("--checkpoint", type=pathlib.Path, default=pathlib.Path("pretrain-checkpoint.pt"))
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--domain-share", type=float, default=0.35, help="share of the batches from the ticket grammar")
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--dataset-seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bfloat16", action="store_true", help="matrix products in bfloat16 (autocast)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)

    prose = package_descriptions(options.apt_lists)
    domain = domain_text(options.seed + 500_000, 60_000, 20_000, options.dataset_seed)
    shuffled = random.Random(options.seed).sample(prose, min(len(prose), 150_000))
    tokenizer = train_tokenizer(shuffled + domain[:20_000], options.vocabulary)
    vocabulary = tokenizer.get_vocab_size()
    prose_rows, domain_rows = pack(tokenizer, prose, 64), single(tokenizer, domain, 40)
    order = torch.randperm(len(prose_rows), generator=torch.Generator().manual_seed(options.seed))
    prose_rows = prose_rows[order]
    held_prose, prose_rows = prose_rows[:1024], prose_rows[1024:]
    held_domain, domain_rows = domain_rows[:1024], domain_rows[1024:]
    print(
        f"{len(prose)} sentences of prose, {(prose_rows > MASK).sum()} tokens; {len(domain)} of the domain, "
        f"{(domain_rows > MASK).sum()} tokens; vocabulary {vocabulary}", flush=True,
    )
    baseline = {
        "prose": unigram_loss(prose_rows, held_prose, vocabulary),
        "domain": unigram_loss(domain_rows, held_domain, vocabulary),
    }
    print("unigram loss", {k: round(v, 3) for k, v in baseline.items()}, flush=True)

    config = BertConfig(
        vocab_size=vocabulary, hidden_size=128, num_hidden_layers=4, num_attention_heads=4, intermediate_size=512,
        max_position_embeddings=128, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=PAD,
    )
    model = BertForMaskedLM(config)
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}], lr=options.lr,
        betas=(0.9, 0.98),
    )
    warmup = min(300, options.steps // 10)

    def rate(step):
        return min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / options.steps)) + 0.01)

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    generator = torch.Generator().manual_seed(options.seed)
    start = 0
    if options.resume:
        state = torch.load(options.checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        generator.set_state(state["generator"])
        start = state["step"]

    def held_out():
        model.eval()
        fixed = torch.Generator().manual_seed(1)
        with torch.no_grad():
            values = {
                name: sum(loss_of(model, r, vocabulary, fixed).item() for r in rows.split(256)) / len(rows.split(256))
                for name, rows in (("prose", held_prose), ("domain", held_domain))
            }
        model.train()
        return values

    began = time.process_time()
    model.train()
    for step in range(start, options.steps):
        from_domain = torch.rand((), generator=generator).item() < options.domain_share
        source = domain_rows if from_domain else prose_rows
        rows = source[torch.randint(len(source), (options.batch_tokens // source.shape[1],), generator=generator)]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=options.bfloat16):
            loss = loss_of(model, rows, vocabulary, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1} loss {loss.item():.3f} cpu {time.process_time() - began:.0f} s", flush=True)
        if (step + 1) % 500 == 0 or step + 1 == options.steps:
            values = held_out()
            print(f"step {step + 1} held out", {k: round(v, 3) for k, v in values.items()}, flush=True)
            torch.save(
                {
                    "model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1,
                    "scheduler": scheduler.state_dict(), "generator": generator.get_state(),
                },
                options.checkpoint,
            )
            count = save(model, tokenizer, options.out)
    print(f"{count} parameters saved; {time.process_time() - began:.0f} s of CPU", flush=True)


if __name__ == "__main__":
    main()
