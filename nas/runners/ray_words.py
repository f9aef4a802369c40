"""What Ray says when it has lost something, and whose fault that is."""

from __future__ import annotations


def cause_of(words: str) -> str:
    """What Ray says of a death, without its advice: the line that names the cause, the last.

    >>> cause_of("The actor died.\\n\\tpid: 7\\nThe actor is dead because its node has died.\\n")
    'The actor is dead because its node has died.'
    """
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return (lines or ["Ray lost it"])[-1][:500]


def of_the_cluster(words: str) -> bool:
    """Whether Ray lost a node, an actor or the way to it: no candidate runs in a process of Ray's.

    >>> of_the_cluster("The actor died because its node has died.")
    True
    >>> of_the_cluster("The actor is dead because its worker process has died.")
    True
    >>> of_the_cluster("The actor 44952e is unavailable: The actor is temporarily unavailable")
    True
    >>> of_the_cluster("The actor died because of an error raised in its creation task")
    False
    """
    lost = any(w in words for w in ("node", "its worker process", "The actor never ran"))
    return ("died" in words and lost) or "is temporarily unavailable" in words


def of_its_search(words: str) -> bool:
    """Whether an actor went with the search that had made it, or with a node, before it began.

    Ray says that it never ran also of one whose own process crashed at its start. For some seconds
    it names nodes that are gone.

    >>> of_its_search("The actor is dead because its owner has died.")
    True
    >>> of_its_search("The actor is dead because all references to the actor were removed.")
    True
    >>> of_its_search("The actor is not schedulable: The node specified doesn't exist any more")
    True
    >>> of_its_search("The actor is dead because its worker process has died.")
    False
    """
    if "not schedulable" in words and "doesn't exist" in words:
        return True
    never = "The actor never ran" in words and "its worker process" not in words
    let_go = "its owner has died" in words or "all references to the actor were removed" in words
    return never or let_go
