"""Rounds of Flower's deployment in which nobody trains: a SuperLink and a SuperNode for each client, with TLS, on one machine.

usage: flower_deployment.py CLIENTS MEGABYTES ROUNDS
Prints one JSON line. Needs Flower 1.41 or newer (`pip install flwr`) and the `openssl` command, on Linux. The strategy and the
clients are those of flower_rounds.py. Keys, app, state and logs are in a temporary folder, which goes with the last process.
"""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

APP = '''
import time

import numpy as np
from flwr.client import ClientApp, NumPyClient
from flwr.common import ndarrays_to_parameters
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg


class Echo(NumPyClient):
    """Trains nothing."""

    def fit(self, parameters, config):
        return parameters, 1, {}


class Timed(FedAvg):
    """The mean of all updates; writes down when the first round began, and when each mean was ready."""

    def __init__(self, times, **options):
        super().__init__(**options)
        self.times = times

    def stamp(self):
        with open(self.times, "a") as file:
            file.write(f"{time.monotonic()}\\n")

    def configure_fit(self, server_round, parameters, client_manager):
        tasks = super().configure_fit(server_round, parameters, client_manager)  # waits until all clients are there
        if server_round == 1:
            self.stamp()
        return tasks

    def aggregate_fit(self, server_round, results, failures):
        if failures or len(results) != self.min_fit_clients:
            raise RuntimeError(f"round {server_round}: {len(results)} updates, {len(failures)} failures")
        mean = super().aggregate_fit(server_round, results, failures)
        self.stamp()
        return mean


def server(context):
    options = context.run_config
    state = [np.random.default_rng(1).random(options["elements"], dtype=np.float32)]
    strategy = Timed(
        options["times"],
        fraction_fit=1.0,
        fraction_evaluate=0.0,
        min_fit_clients=options["clients"],
        min_available_clients=options["clients"],
        initial_parameters=ndarrays_to_parameters(state),
    )
    return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=options["rounds"]))


server_app = ServerApp(server_fn=server)
client_app = ClientApp(client_fn=lambda context: Echo().to_client())
'''

PROJECT = """
[project]
name = "rounds-without-training"
version = "1.0.0"
description = "Every client returns what it was sent."
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "benchmark"

[tool.flwr.app.components]
serverapp = "echo:server_app"
clientapp = "echo:client_app"

[tool.flwr.app.config]
clients = {clients}
elements = {elements}
rounds = {rounds}
times = {times}
"""

CERTIFICATES = """
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:localhost, IP:127.0.0.1
"""

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # prctl(2)
libc = ctypes.CDLL(None)


class Failure(Exception):
    """What went wrong, and the last lines of the logs that tell why."""

    def __init__(self, text, logs=""):
        super().__init__(text)
        self.logs = logs


def say(text):
    print(f"flower_deployment.py: {text}", file=sys.stderr, flush=True)


def arguments():
    try:
        clients, megabytes, rounds = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
        if len(sys.argv) == 4 and clients >= 1 and megabytes * 1e6 >= 4 and rounds >= 1:
            return clients, megabytes, rounds
    except (IndexError, ValueError):
        pass
    sys.exit("usage: flower_deployment.py CLIENTS MEGABYTES ROUNDS    (a whole number, a number, a whole number)")


def environment(folder):
    """Flower's commands start each other by name, so those beside this interpreter come first."""
    beside = os.path.dirname(sys.executable)
    return os.environ | {
        "PATH": os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]),
        "FLWR_HOME": str(folder / "flwr"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "NO_PROXY": "localhost,127.0.0.1",
        "no_proxy": "localhost,127.0.0.1",
        "PYTHONUNBUFFERED": "1",
    }


def require_commands(path):
    needed = ["flower-superlink", "flower-supernode", "flower-superexec", "flwr", "flwr-serverapp", "flwr-clientapp"]
    missing = [command for command in needed if shutil.which(command, path=path) is None]
    if missing:
        raise Failure(
            f"Flower is not installed, or is too old: neither {os.path.dirname(sys.executable)} nor PATH has "
            f"{', '.join(missing)}. Install it with `{sys.executable} -m pip install 'flwr>=1.41'`"
        )
    if shutil.which("openssl", path=path) is None:
        raise Failure("the command `openssl` is not in PATH; it makes the certificates")


def make_certificates(folder, env):
    """An authority, and a certificate of it for the loopback interface."""
    (folder / "openssl.cnf").write_text(CERTIFICATES)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-config", "openssl.cnf"]
    for command in (
        ["req", "-x509", *key, "-extensions", "authority", "-subj", "/CN=benchmark authority", "-days", "2"]
        + ["-keyout", "ca.key", "-out", "ca.pem"],
        ["req", *key, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"],
        ["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"]
        + ["-extfile", "openssl.cnf", "-extensions", "server", "-out", "server.pem"],
    ):
        made = subprocess.run(["openssl", *command], cwd=folder, env=env, capture_output=True, text=True)
        if made.returncode != 0:
            raise Failure(f"`openssl {' '.join(command)}` failed: {made.stderr.strip()}")


def free_ports(count):
    """Ports that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def descendants():
    """Children, their children, and so on. Orphans among them come to us, see PR_SET_CHILD_SUBREAPER."""
    children = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name in parentheses may hold anything; the parent is the second field after it.
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if state not in "ZX":
                children.setdefault(int(parent), []).append(int(entry.name))
    found, wave = [], [os.getpid()]
    while wave:
        wave = [child for parent in wave for child in children.get(parent, [])]
        found += wave
    return found


def end_all():
    """Ends every process that came of this one. Flower puts some in sessions of their own, so no process group has them all."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        while True:
            for process in descendants():
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            time.sleep(0.05)
    except ChildProcessError:
        pass  # no child is left, and so no descendant


class Deployment:
    """The processes, and the logs that they write."""

    def __init__(self, folder, env):
        self.folder, self.env, self.processes = folder, env, {}

    def start(self, name, *command):
        def die_with_parent():
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

        with open(self.folder / f"{name}.log", "wb") as log:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
            )

    def require_alive(self, but=()):
        for name, process in self.processes.items():
            if name not in but and process.poll() is not None:
                raise Failure(f"{name} ended with status {process.returncode}", logs=self.tail(name))

    def tail(self, name):
        lines = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join(f"  {name}: {line}" for line in lines[-25:])


def await_port(deployment, port):
    while True:
        deployment.require_alive()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)


def measure(folder, clients, megabytes, rounds):
    """When the first round began, and when each round's mean was ready, in seconds of one clock."""
    env = environment(folder)
    require_commands(env["PATH"])
    make_certificates(folder, env)
    app, times, authority = folder / "app", folder / "times", str(folder / "ca.pem")
    app.mkdir()
    (app / "echo.py").write_text(APP)
    (app / "pyproject.toml").write_text(
        PROJECT.format(
            clients=clients, elements=int(megabytes * 1e6 / 4), rounds=rounds, times=json.dumps(str(times))
        )
    )
    port, *node_ports = free_ports(1 + clients)
    address = f"127.0.0.1:{port}"
    (folder / "flwr").mkdir()
    (folder / "flwr" / "config.toml").write_text(
        '[superlink]\ndefault = "benchmark"\n\n[superlink.benchmark]\n'
        f"address = {json.dumps(address)}\nroot-certificates = {json.dumps(authority)}\n"
    )

    deployment = Deployment(folder, env)
    say(f"starts a SuperLink and a SuperNode for each of {clients} clients")
    deployment.start(
        *("superlink", "flower-superlink", "--host", "127.0.0.1", "--port", str(port)),
        *("--ssl-ca-certfile", authority, "--ssl-certfile", str(folder / "server.pem")),
        *("--ssl-keyfile", str(folder / "server.key"), "--disable-runtime-dependency-installation"),
    )
    await_port(deployment, port)
    for number, node_port in enumerate(node_ports, start=1):
        deployment.start(
            *(f"supernode-{number}", "flower-supernode", "--superlink", address, "--root-certificates", authority),
            *("--host", "127.0.0.1", "--port", str(node_port)),
        )
    for node_port in node_ports:
        await_port(deployment, node_port)
    deployment.start("run", "flwr", "run", str(app), "benchmark", "--stream")

    seen = 0
    while True:
        ended = deployment.processes["run"].poll() is not None
        lines = times.read_text().split("\n")[:-1] if times.exists() else []
        if len(lines) > seen:
            seen = len(lines)
            say("all clients are there" if seen == 1 else f"round {seen - 1} of {rounds}")
        if len(lines) == rounds + 1:
            return [float(line) for line in lines]
        if ended:
            raise Failure(
                f"the run ended after {max(0, len(lines) - 1)} of {rounds} rounds",
                logs="\n".join(deployment.tail(name) for name in ("supernode-1", "superlink", "run")),
            )
        deployment.require_alive(but=["run"])
        time.sleep(0.2)


def main():
    clients, megabytes, rounds = arguments()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    with tempfile.TemporaryDirectory(prefix="flower-deployment-", ignore_cleanup_errors=True) as folder:
        try:
            times = measure(Path(folder).resolve(), clients, megabytes, rounds)
        except Failure as failure:
            if failure.logs:
                print(failure.logs, file=sys.stderr)
            say(failure)
            sys.exit(1)
        finally:
            end_all()
    spans = [later - earlier for earlier, later in zip(times, times[1:])]
    print(
        json.dumps(
            {
                "engine": "flower-deployment",
                "clients": clients,
                "megabytes": megabytes,
                "rounds": len(spans),
                "rounds_per_second": round(len(spans[1:]) / sum(spans[1:]), 4) if spans[1:] else None,
                "first_round_s": round(spans[0], 2),
            }
        )
    )


if __name__ == "__main__":
    main()
