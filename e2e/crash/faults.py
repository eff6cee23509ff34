"""What is broken and mended: the server, agents, Engines, whole hosts, and network cables."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from crash.observed import Recorder
from support.hosts import HostAgent, HostCluster, HostServer

# What an agent may end with by itself: it found no server. A supervisor starts it again.
NO_SERVER = 1
LOOK_SECONDS = 0.1
# How long the server is killed again and again, and then left alone.
PHASE_SECONDS = 75


@dataclass(frozen=True)
class Fault:
    """One way to break one thing."""

    name: str
    # Two faults with the same target never overlap.
    target: str
    # How often, among the others.
    weight: int
    hit: Callable[[], None]
    mend: Callable[[], None]


class Processes:
    """Server and agents; whoever ends without being killed by us is noticed, and started again."""

    def __init__(self, cluster: HostCluster, recorder: Recorder) -> None:
        self.recorder = recorder
        self.all: dict[str, HostServer | HostAgent] = {"server": cluster.server, **cluster.agents}
        # Those that are dead because we want it.
        self.held: set[str] = set()
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.supervisor = threading.Thread(target=self._supervise, daemon=True)
        self.supervisor.start()

    def kill(self, name: str) -> None:
        """kill -9; it stays dead until it is started."""
        with self.lock:
            self.held.add(name)
            self.all[name].kill()

    def start(self, name: str) -> None:
        """Starts it; from now on it must live."""
        with self.lock:
            self.all[name].start()
            self.held.discard(name)

    def close(self) -> None:
        """Nobody is watched any longer."""
        self.closing.set()
        self.supervisor.join(10)

    def _supervise(self) -> None:
        while not self.closing.wait(LOOK_SECONDS):
            for name, process in self.all.items():
                with self.lock:
                    if name in self.held or process.alive:
                        continue
                    code = process.child.returncode if process.child else None
                    if name == "server" or code != NO_SERVER:
                        self.recorder.incident(f"{name} ended by itself with {code}")
                    process.start()


class Breaker:
    """Breaks things at random moments, several at a time, and mends them again."""

    def __init__(
        self, cluster: HostCluster, recorder: Recorder, seed: str, log: Path, longest: float
    ) -> None:
        self.cluster, self.longest = cluster, longest
        self.random = random.Random(f"{seed} faults")
        self.log = log.open("w", buffering=1)
        self.began = time.monotonic()
        self.first_phase = self.random.randrange(2)
        self.processes = Processes(cluster, recorder)
        self.counts: Counter[str] = Counter()
        self.failure: BaseException | None = None
        self.stopping = threading.Event()
        self.worker = threading.Thread(target=self._work, daemon=True)
        self.faults = [
            self._of_server(),
            *(f for name in cluster.agents for f in self._of_host(name)),
        ]

    def start(self) -> None:
        """Begins."""
        self.worker.start()

    def stop(self) -> None:
        """Breaks nothing more; returns when all is mended."""
        self.stopping.set()
        self.worker.join(120)
        assert not self.worker.is_alive(), "what was broken could not be mended within two minutes"
        if self.failure:
            raise self.failure

    def close(self) -> None:
        """Ends the supervision."""
        self.processes.close()
        self.log.close()

    def _of_server(self) -> Fault:
        return Fault(
            "kill server",
            "server",
            6,
            lambda: self.processes.kill("server"),
            lambda: self.processes.start("server"),
        )

    def _of_host(self, name: str) -> list[Fault]:
        host, processes = self.cluster.host(name), self.processes

        def power_off() -> None:
            processes.held.add(name)
            host.kill()
            processes.kill(name)

        def power_on() -> None:
            host.boot()
            processes.start(name)

        def start() -> None:
            processes.start(name)

        def nothing() -> None:
            """dockerd starts its containerd again by itself."""

        def fault(
            what: str, weight: int, hit: Callable[[], None], mend: Callable[[], None]
        ) -> Fault:
            return Fault(f"{what} {name}", name, weight, hit, mend)

        return [
            fault("kill agent", 3, lambda: processes.kill(name), start),
            fault("kill dockerd", 2, host.kill_engine, host.start_engine),
            fault("kill containerd", 1, lambda: host.kill_engine("containerd"), nothing),
            fault("power off", 1, power_off, power_on),
            fault("cut", 1, host.cut, host.heal),
            fault("cut in", 1, lambda: host.cut("in"), host.heal),
            fault("cut out", 1, lambda: host.cut("out"), host.heal),
        ]

    def _work(self) -> None:
        try:
            with ThreadPoolExecutor(len(self.processes.all)) as pool:
                mends: dict[str, Future[None]] = {}
                while not self.stopping.wait(self.random.uniform(0.2, 4)):
                    mends = {target: mend for target, mend in mends.items() if not finished(mend)}
                    # One to three at once, in what is whole.
                    for _ in range(self.random.choice([1, 1, 1, 2, 3])):
                        if free := [fault for fault in self._faults() if fault.target not in mends]:
                            fault = self.random.choices(free, [one.weight for one in free])[0]
                            pause = self._pause(fault)
                            mends[fault.target] = pool.submit(self._strike, fault, pause)
                for mend in mends.values():
                    mend.result()
        except BaseException as error:  # noqa: BLE001 (the run must fail, whatever it is)
            self.failure = error

    def _strike(self, fault: Fault, pause: float) -> None:
        """Breaks one thing for a while; not for longer than the run."""
        self._note("hit ", fault)
        fault.hit()
        self.counts[fault.name] += 1
        self.stopping.wait(pause)
        fault.mend()
        self._note("mend", fault)

    def _faults(self) -> list[Fault]:
        """What may be broken now. A server that was just started gives absent agents time, so only
        one that is left alone for a while declares instances lost: it is, every other phase."""
        phase = (time.monotonic() - self.began) // PHASE_SECONDS + self.first_phase
        return [fault for fault in self.faults if phase % 2 or fault.target != "server"]

    def _pause(self, fault: Fault) -> float:
        """Mostly short; now and then long enough for an instance to be declared lost."""
        if self.random.random() < 0.2 and fault.target != "server":
            return self.random.uniform(2, self.longest)
        return self.random.choice([0.0, self.random.uniform(0, 0.5), self.random.uniform(0, 2)])

    def _note(self, what: str, fault: Fault) -> None:
        # Wall clock, to be compared with the logs of the processes.
        now = time.strftime("%H:%M:%S")
        self.log.write(f"{now} {time.monotonic() - self.began:9.3f} {what} {fault.name}\n")


def finished(work: Future[None]) -> bool:
    """Whether it is done; if it failed, so do we."""
    if work.done():
        work.result()
    return work.done()
