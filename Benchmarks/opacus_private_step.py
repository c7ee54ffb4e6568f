"""Times a plain LoRA step of PyTorch and PEFT and the DP-SGD steps of Opacus: the yardstick for private-step.

    python3 Benchmarks/opacus_private_step.py MODEL_FOLDER [--modes plain,hooks,ghost] [--kernels stock,tuned,bf16]
        [--threads 1,2] [--trained fedsvd,fedsa] [--batch 32] [--length 128 | --lengths FILE] [--steps 5]

Modes: `plain` is forward, backward and AdamW. `hooks` is Opacus' default, gradients of single examples kept by hooks.
`ghost` is its fast gradient clipping: norms without the gradients, then a second backward pass over reweighted losses. Both
clip to norm 1 and add noise of multiplier 0.7 from PyTorch's ordinary generator; secure_mode would be slower.

Kernels: `stock` is the wheel as it comes. `tuned` is the fastest float32 that we found for it: two preloaded lines of C tell
MKL that the processor is an Intel one, without which it takes its AVX2 path on AMD's, and glibc keeps freed memory and asks
for huge pages, without which each step faults its activations in again. (Attention is PyTorch's fused one in all. Compiling
gains nothing here and takes a minute.) `bf16` is that and autocast to bfloat16: gradients and norms are less exact.

LoRA has r = 8 and alpha = 16, the linear head sits on the masked mean; `fedsvd` trains B and the head, `fedsa` A, B and the
head. With FILE (token counts divided by white space, taken in turn) the batch is padded to its longest sequence. Everything
runs in a process of its own, so peak memory is its own; one JSON line each.
"""

import argparse
import itertools
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from pytorch_lora_step import load_encoder

MALLOC = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=8589934592"
CLIPPING_NORM, NOISE_MULTIPLIER, CLASSES = 1.0, 0.7, 2


def make_model(options):
    import torch
    from peft import LoraConfig, get_peft_model

    class Classifier(torch.nn.Module):
        def __init__(self):
            super().__init__()
            base = load_encoder(options.model)
            targets = options.targets.split(",")
            self.encoder = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules=targets))
            self.head = torch.nn.Linear(base.config.hidden_size, CLASSES)

        def forward(self, ids, mask):
            hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
            weights = mask.unsqueeze(-1).to(hidden.dtype)
            return self.head((hidden * weights).sum(1) / weights.sum(1))

    model = Classifier()
    model.train()
    for name, parameter in model.named_parameters():
        if "lora_A" in name and options.trained == "fedsvd":
            parameter.requires_grad_(False)
        if "lora_B" in name:
            # Zero is a special start: nothing would flow to A.
            torch.nn.init.normal_(parameter, std=0.02)
    return model


def make_batch(options, vocabulary):
    import torch

    lengths = [options.length]
    if options.lengths:
        lengths = [int(word) for word in pathlib.Path(options.lengths).read_text().split()]
    lengths = torch.tensor([lengths[row % len(lengths)] for row in range(options.batch)])
    mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
    ids = torch.randint(1000, vocabulary, mask.shape) * mask
    return ids, mask, torch.arange(options.batch) % CLASSES


def make_step(model, options):
    """The model wrapped as the mode wants it, its optimizer, and what turns logits and labels into a loss."""
    import torch
    from opacus import GradSampleModule
    from opacus.grad_sample import GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    plain = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    criterion = torch.nn.CrossEntropyLoss()
    terms = {"noise_multiplier": NOISE_MULTIPLIER, "max_grad_norm": CLIPPING_NORM, "expected_batch_size": options.batch}
    if options.modes == "hooks":
        return GradSampleModule(model), DPOptimizer(plain, **terms), criterion
    if options.modes == "ghost":
        # What make_private(grad_sample_mode="ghost") assembles, without its data loader.
        wrapped = GradSampleModuleFastGradientClipping(model, max_grad_norm=CLIPPING_NORM, use_ghost_clipping=True)
        optimizer = DPOptimizerFastGradientClipping(plain, **terms)
        return wrapped, optimizer, DPLossFastGradientClipping(wrapped, optimizer, criterion)
    return model, plain, criterion


def measure(options):
    import opacus
    import peft
    import torch
    import transformers

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = make_model(options)
    ids, mask, labels = make_batch(options, model.encoder.config.vocab_size)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    model, optimizer, criterion = make_step(model, options)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.kernels == "bf16"):
            loss = criterion(model(ids, mask).float(), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    step()
    seconds = []
    for _ in range(options.steps):
        began = time.perf_counter()
        loss = step()
        seconds.append(time.perf_counter() - began)
    if not loss < 100:
        raise SystemExit(f"the loss is {loss}: what was timed is not training")
    return {
        "engine": "pytorch" if options.modes == "plain" else "opacus", "mode": options.modes, "kernels": options.kernels,
        "trained": options.trained, "threads": options.threads, "batch": options.batch, "tokens": int(mask.sum()),
        "padded_tokens": mask.numel(), "coordinates": trained, "median_s": statistics.median(seconds),
        "best_s": min(seconds), "examples_per_s": options.batch / statistics.median(seconds),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}, "
                    f"opacus {opacus.__version__}",
    }


def build_shim(folder):
    source, library = folder / "intel.c", folder / "intel.so"
    source.write_text("int mkl_serv_intel_cpu_true(void) { return 1; }\nint mkl_serv_intel_cpu(void) { return 1; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return library


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path, help="folder with config.json and model.safetensors of a BERT")
    parser.add_argument("--modes", default="plain,hooks,ghost")
    parser.add_argument("--kernels", default="stock,tuned")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--trained", default="fedsvd,fedsa")
    parser.add_argument("--targets", default="query,value")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--lengths", default="")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_process:
        options.threads = int(options.threads)
        print(json.dumps(measure(options)), flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        shim = build_shim(pathlib.Path(folder))
        varied = ("threads", "trained", "kernels", "modes")
        for values in itertools.product(*(getattr(options, name).split(",") for name in varied)):
            command = [sys.executable, __file__, str(options.model), "--in-process"]
            for name, value in itertools.chain(zip(varied, values), (
                (name, getattr(options, name)) for name in ("targets", "batch", "length", "lengths", "steps")
            )):
                command += [f"--{name}", str(value)]
            environment = dict(os.environ)
            if dict(zip(varied, values))["kernels"] != "stock":
                environment |= {"LD_PRELOAD": str(shim), "GLIBC_TUNABLES": MALLOC}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            if done.returncode != 0:
                raise SystemExit(f"{' '.join(values)}: {done.stderr.strip()[-2000:]}")
            print(done.stdout.strip().splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
