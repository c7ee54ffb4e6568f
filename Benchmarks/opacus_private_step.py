"""Times a plain LoRA step of PyTorch and PEFT or a DP-SGD step of Opacus: the yardstick for private-step.

    python3 Benchmarks/opacus_private_step.py MODEL_FOLDER [--mode hooks] [--kernels stock] [--threads 1] [--trained fedsvd]
        [--batch 32] [--length 128 | --lengths FILE] [--targets query,value] [--steps 5 | --on-request]

Modes: `plain` is forward, backward and AdamW. `hooks` is Opacus' default, gradients of single examples kept by hooks.
`ghost` is its fast gradient clipping: norms without the gradients, then a second backward pass over reweighted losses. Both
clip to norm 1 and add noise of multiplier 0.7 from PyTorch's ordinary generator; secure_mode would be slower.

Kernels: `stock` is the wheel as it comes. `avx512` preloads two lines of C that tell MKL that the processor is an Intel one,
without which it takes its AVX2 path on AMD's. `tuned`, the fastest float32 that we found, also has glibc keep freed memory
and ask for huge pages, without which each step faults its activations in again. `bf16` is `tuned` with autocast to bfloat16:
gradients and norms are less exact. Attention is PyTorch's fused one in all; compiling gains nothing here and takes a minute.

LoRA has r = 8 and alpha = 16, the linear head sits on the masked mean; `fedsvd` trains B and the head, `fedsa` A, B and the
head. With FILE (token counts divided by white space, taken in turn) the batch is padded to its longest sequence. Prints one
JSON line. With --on-request a step is made for each line on standard input and answered by a line with its seconds, so that
several programs can take turns; the end of the input asks for the JSON line.
"""

import argparse
import json
import pathlib
import resource
import statistics
import sys
import time
import warnings

from pytorch_step import choose_kernels, load_encoder

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
    if options.mode == "hooks":
        return GradSampleModule(model), DPOptimizer(plain, **terms), criterion
    if options.mode == "ghost":
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

    loss = step()
    seconds, cpu = [], []
    for _ in requests() if options.on_request else range(options.steps):
        began, cpu_began = time.perf_counter(), time.process_time()
        loss = step()
        cpu.append(time.process_time() - cpu_began)
        seconds.append(time.perf_counter() - began)
        if options.on_request:
            print(json.dumps({"private_s": seconds[-1], "private_cpu_s": cpu[-1]}), flush=True)
    if not loss < 100:
        raise SystemExit(f"the loss is {loss}: what was timed is not training")
    return {
        "engine": "pytorch" if options.mode == "plain" else "opacus", "mode": options.mode, "kernels": options.kernels,
        "trained": options.trained, "threads": options.threads, "batch": options.batch, "tokens": int(mask.sum()),
        "padded_tokens": mask.numel(), "coordinates": trained, "median_s": statistics.median(seconds),
        "best_s": min(seconds), "cpu_median_s": statistics.median(cpu), "examples_per_s": options.batch / statistics.median(seconds),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}, "
                    f"opacus {opacus.__version__}",
    }


def requests():
    print("ready", flush=True)
    yield from sys.stdin


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path, help="folder with config.json and model.safetensors of a BERT")
    parser.add_argument("--mode", choices=["plain", "hooks", "ghost"], default="hooks")
    parser.add_argument("--kernels", choices=["stock", "avx512", "tuned", "bf16"], default="stock")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--trained", choices=["fedsvd", "fedsa"], default="fedsvd")
    parser.add_argument("--targets", default="query,value")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--lengths", default="")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--on-request", action="store_true")
    options = parser.parse_args()
    choose_kernels(options.kernels)
    warnings.simplefilter("ignore")
    print(json.dumps(measure(options)), flush=True)


if __name__ == "__main__":
    main()
