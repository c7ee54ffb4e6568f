"""Times one LoRA training step with PyTorch and PEFT: the yardstick for our own engine.

    python3 Benchmarks/pytorch_lora_step.py MODEL_FOLDER [--threads 1,2] [--batch 32] [--length 128] [--steps 12]

A step is forward, backward and AdamW over LoRA (r = 8, alpha = 16, query and value) and a linear head on the masked mean,
in float32, on random tokens of a fixed length without padding. Prints one JSON line for each number of threads, each
measured in a process of its own, so that the peak memory is its own too. Kernels are whatever the installed wheel and the
environment choose: settings that matter are reported, none is changed.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time


def load_encoder(folder):
    import torch
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel

    config = json.loads((folder / "config.json").read_text())
    config.pop("torch_dtype", None)
    config.pop("dtype", None)
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = BertModel(BertConfig(**config), add_pooling_layer=False)
    weights = {
        name.removeprefix("bert."): tensor.to(torch.float32)
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    own = model.state_dict()
    missing = [name for name in own if name not in weights and "_ids" not in name]
    if missing:
        raise SystemExit(f"{folder}: {len(missing)} tensors are missing, for example {missing[0]}")
    model.load_state_dict({name: tensor for name, tensor in weights.items() if name in own}, strict=False)
    return model


def measure(options):
    import torch
    from peft import LoraConfig, get_peft_model

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    base = load_encoder(options.model)
    model = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"]))
    model.train()
    head = torch.nn.Linear(base.config.hidden_size, options.classes)
    parameters = [p for p in model.parameters() if p.requires_grad] + list(head.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    ids = torch.randint(5, base.config.vocab_size, (options.batch, options.length))
    mask = torch.ones_like(ids)
    labels = torch.randint(0, options.classes, (options.batch,))

    def step():
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * weights).sum(1) / weights.sum(1)
        loss = torch.nn.functional.cross_entropy(head(pooled), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    for _ in range(options.warmup):
        step()
    seconds = []
    for _ in range(options.steps):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    median = statistics.median(seconds)
    settings = ("OMP_NUM_THREADS", "MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE", "OPENBLAS_CORETYPE", "ATEN_CPU_CAPABILITY")
    return {
        "threads": options.threads,
        "batch": options.batch,
        "length": options.length,
        "median_step_seconds": round(median, 6),
        "min_step_seconds": round(min(seconds), 6),
        "examples_per_second": round(options.batch / median, 2),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "trained_parameters": sum(p.numel() for p in parameters),
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "mkl": torch.backends.mkl.is_available(),
        "mkldnn": torch.backends.mkldnn.is_available(),
        "environment": {name: os.environ[name] for name in settings if name in os.environ},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path, help="folder with config.json and model.safetensors of a BERT")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, one measurement each")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_process:
        options.threads = int(options.threads)
        print(json.dumps(measure(options)), flush=True)
        return
    for threads in options.threads.split(","):
        command = [sys.executable, __file__, str(options.model), "--in-process", "--threads", threads]
        for name in ("batch", "length", "classes", "warmup", "steps"):
            command += [f"--{name}", str(getattr(options, name))]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise SystemExit(f"with {threads} threads: {done.stderr.strip()[-2000:]}")
        print(done.stdout.strip().splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
