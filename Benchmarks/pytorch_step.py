"""Makes LoRA training steps with PyTorch and PEFT: the yardstick for our own engine.

    python3 Benchmarks/pytorch_step.py MODEL_FOLDER [--kernels stock] [--threads 1] [--batch 32] [--lengths 128]
        [--targets query,value] [--causal]

A step is forward, backward and AdamW over LoRA (r = 8, alpha = 16) and, for classes, a linear head on the masked mean; with
--causal the next token is predicted by the model's own head. Sequences have the given numbers of tokens, taken in turn, and
are padded to the longest of the batch. A step is made for each line on standard input and answered by a line with its
seconds, so that several programs can take turns; the end of the input asks for a report of start-up, memory and versions.

Kernels: `stock` is the wheel as it comes. `avx512` preloads two lines of C that tell MKL that the processor is an Intel one,
without which it takes its AVX2 path on AMD's. `tuned` also has glibc keep freed memory and ask for huge pages, without which
each step faults its activations in again. `bf16` is `tuned` with autocast to bfloat16, `compiled` is `tuned` with
torch.compile. Attention is PyTorch's fused one in all.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings

MALLOC = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=8589934592"
SHIM = "intel_for_mkl.so"
CLASSES = 2


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


def choose_kernels(kernels):
    """Starts this program again with what the kernels need: both settings are read before the first line of Python."""
    shim = os.environ.pop("LD_PRELOAD", "")
    if kernels == "stock":
        return
    if os.path.basename(shim) == SHIM:
        # Loaded, so that the file is not needed any more.
        shutil.rmtree(os.path.dirname(shim), ignore_errors=True)
        return
    folder = pathlib.Path(tempfile.mkdtemp())
    source, library = folder / "intel.c", folder / SHIM
    source.write_text("int mkl_serv_intel_cpu_true(void) { return 1; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    environment = os.environ | {"LD_PRELOAD": str(library)}
    if kernels != "avx512":
        environment["GLIBC_TUNABLES"] = MALLOC
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)


def load(options):
    if options.causal:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(options.model)
    if json.loads((options.model / "config.json").read_text())["model_type"] == "bert":
        return load_encoder(options.model)
    from transformers import AutoModel

    return AutoModel.from_pretrained(options.model)


def make_step(options):
    import torch
    from peft import LoraConfig, get_peft_model

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    base = load(options)
    model = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules=options.targets.split(",")))
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    head = None
    if not options.causal:
        head = torch.nn.Linear(base.config.hidden_size, CLASSES)
        parameters += list(head.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    counts = [int(text) for text in options.lengths.split(",")]
    lengths = torch.tensor([counts[row % len(counts)] for row in range(options.batch)])
    longest = int(lengths.max())
    mask = (torch.arange(longest) < lengths.unsqueeze(1)).long()
    ids = torch.randint(1000, 21000, (options.batch, longest)) * mask
    labels = torch.randint(0, CLASSES, (options.batch,))
    targets = ids.masked_fill(mask == 0, -100)
    # Without padding there is nothing to mask, and attention takes its faster path.
    given = None if int(lengths.min()) == longest else mask

    def loss_of():
        if options.causal:
            return model(input_ids=ids, attention_mask=given, labels=targets).loss
        hidden = model(input_ids=ids, attention_mask=given).last_hidden_state
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * weights).sum(1) / weights.sum(1)
        return torch.nn.functional.cross_entropy(head(pooled), labels)

    forward = torch.compile(loss_of) if options.kernels == "compiled" else loss_of

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=options.kernels == "bf16"):
            loss = forward()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def run(options, began):
    step = make_step(options)
    ready = time.time() - began
    step()
    startup = time.time() - began
    step()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)
    import peft
    import torch
    import transformers

    versions = f"PyTorch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}"
    print(json.dumps({
        "ready_s": ready,
        "startup_s": startup,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "software": f"{versions}, {options.kernels}, {torch.backends.cpu.get_cpu_capability()}",
    }), flush=True)


def process_start():
    """When this process began, in seconds since 1970: also before it was started again with other kernels."""
    with open("/proc/self/stat") as stat, open("/proc/uptime") as uptime:
        ticks = float(stat.read().rsplit(")", 1)[1].split()[19])
        return time.time() - float(uptime.read().split()[0]) + ticks / os.sysconf("SC_CLK_TCK")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path, help="a Hugging Face model folder")
    parser.add_argument("--kernels", choices=["stock", "avx512", "tuned", "bf16", "compiled"], default="stock")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lengths", default="128")
    parser.add_argument("--targets", default="query,value")
    parser.add_argument("--causal", action="store_true")
    options = parser.parse_args()
    choose_kernels(options.kernels)
    warnings.simplefilter("ignore")
    run(options, process_start())


if __name__ == "__main__":
    main()
