"""Rounds of Flower's simulation in which nobody trains: every client returns an array of the same size.

usage: flower_rounds.py CLIENTS MEGABYTES ROUNDS
Prints one JSON line. Needs `flwr[simulation]`.
"""

import json
import logging
import os
import sys
import time

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("RAY_DEDUP_LOGS", "0")

import numpy as np
from flwr.client import ClientApp, NumPyClient
from flwr.common import Context, ndarrays_to_parameters
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.simulation import run_simulation

clients, megabytes, rounds = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
state = [np.random.default_rng(1).random(int(megabytes * 1e6 / 4), dtype=np.float32)]
times = []


class Echo(NumPyClient):
    """Trains nothing."""

    def fit(self, parameters, config):
        return parameters, 1, {}


class Timed(FedAvg):
    """The mean of all updates, and when it was ready."""

    def aggregate_fit(self, server_round, results, failures):
        if failures or len(results) != clients:
            raise RuntimeError(f"round {server_round}: {len(results)} updates, {len(failures)} failures")
        mean = super().aggregate_fit(server_round, results, failures)
        times.append(time.monotonic())
        return mean


def server(context: Context) -> ServerAppComponents:
    strategy = Timed(
        fraction_fit=1.0,
        fraction_evaluate=0.0,
        min_fit_clients=clients,
        min_available_clients=clients,
        initial_parameters=ndarrays_to_parameters(state),
    )
    return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=rounds))


logging.getLogger("flwr").setLevel(logging.ERROR)
run_simulation(
    server_app=ServerApp(server_fn=server),
    client_app=ClientApp(client_fn=lambda context: Echo().to_client()),
    num_supernodes=clients,
    backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
)
spans = [later - earlier for earlier, later in zip(times, times[1:])]
print(
    json.dumps(
        {
            "engine": "flower-simulation",
            "clients": clients,
            "megabytes": megabytes,
            "rounds": len(times),
            "rounds_per_second": round(len(spans) / sum(spans), 3) if spans else None,
        }
    )
)
