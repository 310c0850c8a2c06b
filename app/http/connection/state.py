"""The states of a connection, and which may follow which.

Theory of operation. A connection is in one ``State``. Its request moves it, as uvicorn's parser
reports the parts:

    NEW -> HEAD -> BODY -> ANSWERING -> IDLE -> HEAD -> ...

Bytes that arrive in NEW or IDLE, where nothing earlier is open, are offered to the fast path first.
If they are one whole fast request, the parser never sees them:

    NEW or IDLE -> FAST -> IDLE

While the fast path works, further bytes are held, and read after its response. While the
application works (ANSWERING), further bytes go to the parser, and uvicorn queues the requests in
them. So the state follows the newest request. In HEAD and BODY an earlier one may still be being
answered.

Where the client owes something, there is a deadline. It does not limit silence, which a byte now
and then would break for ever:

    NEW, HEAD   header_seconds, from the connection's or the head's first byte
    BODY        body_seconds, from the end of the head
    IDLE        keep_alive_seconds, from the end of the response
    LINGERING   linger_seconds, from the end of the last response

An error in a request ends the connection: it is answered, and the connection lingers, because
closing a socket with unread data resets it, and the client would lose the response. While earlier
requests are still being answered, nothing more is read (FINISHING); their responses are the last.

A client may end its side after its request (``shutdown(SHUT_WR)``), which looks like a client that
has left: both send FIN. A packet tells them apart: who has left answers it with a reset. So where
the response has not begun a moment later, an interim one is sent. Clients that reset leave the
queue; others are answered, and the connection is closed.

When the server stops, each response closes its connection. A connection without a request lingers,
too: it was about to send one, perhaps.

A response that does not leave has a timer beside the states. uvicorn waits for ever for a client
that takes nothing, and closing would not end that, because a transport closes once its buffer is
empty. So after stall_seconds the connection is cut.
"""

from enum import StrEnum


class State(StrEnum):
    """Where a connection is."""

    NEW = "new"  # nothing has been received
    HEAD = "head"  # the head of a request is not whole
    BODY = "body"  # its head is whole, its body is not
    ANSWERING = "answering"  # the application answers requests that are whole
    FAST = "fast"  # the fast path answers one; what is received is held
    IDLE = "idle"  # all is answered, and nothing of a next request has been received
    FINISHING = "finishing"  # nothing more is read; earlier requests are being answered
    LINGERING = "lingering"  # the last response is written, for the client to read
    CLOSED = "closed"


_S = State
NEXT: dict[State, frozenset[State]] = {
    _S.NEW: frozenset({_S.HEAD, _S.FAST, _S.LINGERING, _S.CLOSED}),
    _S.HEAD: frozenset({_S.BODY, _S.FINISHING, _S.LINGERING, _S.CLOSED}),
    _S.BODY: frozenset({_S.ANSWERING, _S.IDLE, _S.FINISHING, _S.LINGERING, _S.CLOSED}),
    _S.ANSWERING: frozenset({_S.HEAD, _S.IDLE, _S.FINISHING, _S.CLOSED}),
    _S.FAST: frozenset({_S.IDLE, _S.LINGERING, _S.CLOSED}),
    _S.IDLE: frozenset({_S.HEAD, _S.FAST, _S.LINGERING, _S.CLOSED}),
    _S.FINISHING: frozenset({_S.LINGERING, _S.CLOSED}),
    _S.LINGERING: frozenset({_S.CLOSED}),
    _S.CLOSED: frozenset(),
}
