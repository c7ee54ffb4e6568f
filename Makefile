# make help lists the targets.
.PHONY: help build test simulate fuzz format lint bench schema clean

help: ## list these targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

build: ## install system packages and build (release)
	./bootstrap build

test: ## install system packages and run all tests
	./bootstrap test

simulate: ## run the embedded default
	./bootstrap simulate

fuzz: ## fuzz every parser (SECONDS=600, SEED=1)
	swift run -c release fuzz --target all --seconds $(or $(SECONDS),600) --seed $(or $(SEED),1)

format: ## lay the sources out
	swift format -i -r -p Package.swift Sources Simulations/Harness Tests Benchmarks Fuzzing

lint: ## check layout and documentation
	swift format lint -r -p --strict Package.swift Sources Simulations/Harness Tests Benchmarks Fuzzing

bench: ## time a LoRA step beside PyTorch (MODEL=folder)
	.build/release/fedlora bench engine --model $(MODEL) --pytorch python3

schema: ## regenerate the messages from the wire schema
	Sources/Protocol/Schema/generate

clean: ## remove build products
	rm -rf .build
