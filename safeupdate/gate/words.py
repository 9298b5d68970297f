"""The gate in words, for people: in the journal, at a login, in `safeupdate status`."""

from __future__ import annotations

from safeupdate.gate.state import Gate


def headline(gate: Gate) -> str:
    """The gate in one sentence."""
    if gate.mode == "observing":
        return f"safeupdate observes and holds nothing back. {gate.why}"
    if gate.position == "open":
        return f"The gate is open. {gate.why}"
    return f"The gate is closed, {held_back(gate)}. {gate.why}"


def held_back(gate: Gate) -> str:
    """What a closed gate holds back."""
    if gate.people:
        return "what reboots by itself is held back; a person may reboot"
    lever = gate.levers.get("reboot-target")
    return "reboots are held back" if lever is None or lever.position == "closed" else "but nothing stops a `reboot`"


def reason(gate: Gate) -> str:
    """Why the gate stands so, in whole sentences."""
    judged = gate.judged
    verdict = _verdict(gate)
    if gate.overdue:
        verdict += f" So it has been since {gate.since}: a person should look."
    if gate.cause == "allowed":
        return f"{gate.allowed}. {verdict}"
    if gate.cause == "rejected-held":
        return f"{gate.rejected}. The fallback {judged.fallback} starts in its place."
    if gate.cause == "rejected":
        return (
            f"{gate.rejected}. It starts all the same, as the boot loader's default cannot be held on another kernel."
        )
    if gate.cause == "no-fallback":
        return f"{verdict} But there is no other kernel to go back to any more, as there was before the update."
    if gate.cause == "no-snapshot":
        return f"{verdict} {judged.unprotected}"
    if gate.cause == "skipped":
        return f"{verdict} But by the configuration this was not asked: {', '.join(judged.skipped)}."
    return verdict


def _first(sentences: tuple[str, ...]) -> str:
    if not sentences:
        return "no reason was given."
    return sentences[0] + " There is more." * (len(sentences) > 1)


def _verdict(gate: Gate) -> str:
    kernel, first = gate.judged.kernel, _first(gate.judged.blockers)
    if gate.verdict == "pending":
        return "What is to start next has changed, and is not judged yet."
    following = f"{kernel}, which is to start next," if kernel else "what is to start next"
    if gate.verdict == "unknown":
        return f"Whether {following} comes up could not be told: {first}"
    would = "has everything that it needs." if gate.verdict == "safe" else f"would fail: {first}"
    return f"{following[0].upper()}{following[1:]} {would}"
