"""The gate every call passes: the secret first, and errors as status codes on the way out. Runs in the agent."""

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from katapy.errors import (
    AlreadyExists,
    KatapyError,
    NotFound,
    SpecError,
    Timeout,
    Unsupported,
    WrongStatus,
)
from katapy.protocol import names

CODES: dict[type[Exception], grpc.StatusCode] = {
    NotFound: grpc.StatusCode.NOT_FOUND,
    AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    WrongStatus: grpc.StatusCode.FAILED_PRECONDITION,
    SpecError: grpc.StatusCode.INVALID_ARGUMENT,
    Unsupported: grpc.StatusCode.UNIMPLEMENTED,
    Timeout: grpc.StatusCode.ABORTED,
    NotImplementedError: grpc.StatusCode.UNIMPLEMENTED,  # what grpc's generated code raises
}
MESSAGE_LIMIT = 2000
"""Characters of a status message."""

Handler = Any
"""grpc.RpcMethodHandler: grpc has no type for what is in it."""
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def code_of(error: Exception) -> grpc.StatusCode:
    return CODES.get(type(error), grpc.StatusCode.INTERNAL)


def message_of(error: Exception) -> str:
    """One bounded line."""
    text = str(error) if isinstance(error, KatapyError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:MESSAGE_LIMIT]


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # the stub is generic, the class is not
    """Closed until `open`. `unexpected` is told of errors that nobody meant to raise."""

    def __init__(self, unexpected: Callable[[str, Exception], None]) -> None:
        self._secret = b""
        self._unexpected = unexpected
        self._refusal: Handler = grpc.stream_stream_rpc_method_handler(_refuse)

    def open(self, secret: str) -> None:
        """From now on calls with this secret pass, and no others."""
        self._secret = secret.encode()

    def close(self) -> None:
        """No call passes."""
        self._secret = b""

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Handler]], details: Any) -> Handler:
        if not self._knows_secret(details.invocation_metadata):
            return self._refusal
        handler = await continuation(details)
        return None if handler is None else self._guarded(handler, details.method)

    def _knows_secret(self, metadata: Any) -> bool:
        for key, value in metadata or ():
            if key == names.SECRET_METADATA and self._secret:
                given = value if isinstance(value, bytes) else value.encode()
                return hmac.compare_digest(given, self._secret)
        return False

    def _guarded(self, handler: Handler, method: str) -> Handler:
        """The same handler, with errors made into status codes."""
        changes = {kind: self._guard(call, method) for kind in KINDS if (call := getattr(handler, kind)) is not None}
        return handler._replace(**changes)

    def _guard(self, call: Callable[[Any, Any], Awaitable[Any]], method: str) -> Callable[[Any, Any], Awaitable[Any]]:
        async def guarded(request: Any, context: Any) -> Any:
            try:
                return await call(request, context)
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                cause = _only_cause(error)
                if not isinstance(cause, (KatapyError, NotImplementedError)):
                    self._unexpected(method, cause)
                await context.abort(code_of(cause), message_of(cause))

        return guarded


def _only_cause(error: Exception) -> Exception:
    """What a task group has wrapped, if it is one thing."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def _refuse(_requests: AsyncIterator[Any], context: Any) -> None:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong or no secret")
