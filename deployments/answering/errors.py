"""Every error a caller can meet, on one page.

    RaydeskError
    ├── CallerError                 the caller's fault: 4xx, never trips a breaker
    │   ├── InvalidRequestError     400 invalid_request
    │   │   ├── InvalidJsonError        400 invalid_json
    │   │   └── UnsupportedParameterError 400 unsupported_parameter
    │   ├── AuthenticationError     401 authentication_failed
    │   ├── PermissionDeniedError   403 permission_denied
    │   ├── NotFoundError           404 not_found
    │   │   ├── UnknownCollectionError  404 unknown_collection
    │   │   └── UnknownModelError       404 unknown_model
    │   ├── MethodNotAllowedError   405 method_not_allowed
    │   ├── IdempotencyConflictError 409 idempotency_conflict
    │   ├── TurnCancelledError      409 turn_cancelled
    │   ├── EventsGoneError         410 events_gone: no longer kept
    │   ├── PayloadTooLargeError    413 payload_too_large
    │   ├── UnsupportedMediaTypeError 415 unsupported_media_type
    │   ├── UpgradeRequiredError    426 upgrade_required
    │   ├── RateLimitedError        429 rate_limited: this key asks too fast; retry after a pause
    │   └── HeadersTooLargeError    431 headers_too_large
    ├── OverloadedError             503 overloaded: our queues are full; retry after a pause
    ├── DependencyError             a room or store behind us failed
    │   ├── DeadlineExceededError   504 deadline_exceeded
    │   ├── EngineDiedError         502 engine_died: the replica that was generating is gone
    │   ├── TurnLostError           503 turn_lost: the replica that ran the turn is gone
    │   ├── EngineRefusedError      502 engine_refused: the engine does not take this request; it may be well
    │   ├── EngineBusyError         503 engine_busy: the engine asks for a pause, `retry_after_s`
    │   └── RoomUnavailableError    503 room_unavailable
    └── InternalError               500 internal_error: a fault of ours

A customer gets `code`, the public sentence and a request id; the cause goes to the log only. All errors pickle
(they cross process boundaries as Ray task errors): their only state is `message` and the class.
"""

from __future__ import annotations

from dataclasses import dataclass


class RaydeskError(Exception):
    """Something went wrong."""

    status = 500
    code = "internal_error"
    retryable = False  # whether the same request may succeed later
    retry_after_s: int | None = None

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])

    @property
    def message(self) -> str:
        return str(self.args[0])


class CallerError(RaydeskError):
    """The request cannot be served as it is."""

    status = 400
    code = "invalid_request"


class InvalidRequestError(CallerError):
    """The request is not valid."""


class InvalidJsonError(InvalidRequestError):
    """The request body is not valid JSON."""

    code = "invalid_json"


class UnsupportedParameterError(InvalidRequestError):
    """A parameter has a value that is not supported; 'param' names it."""

    code = "unsupported_parameter"


class AuthenticationError(CallerError):
    """A valid API key is needed: send it as 'Authorization: Bearer <key>'."""

    status = 401
    code = "authentication_failed"


class PermissionDeniedError(CallerError):
    """This API key may not do that."""

    status = 403
    code = "permission_denied"


class NotFoundError(CallerError):
    """There is nothing here under that name."""

    status = 404
    code = "not_found"


class UnknownCollectionError(NotFoundError):
    """There is no published knowledge collection of that name."""

    code = "unknown_collection"


class UnknownModelError(NotFoundError):
    """There is no model of that name; GET /v1/models lists them."""

    code = "unknown_model"


class MethodNotAllowedError(CallerError):
    """This path does not take that HTTP method."""

    status = 405
    code = "method_not_allowed"


class IdempotencyConflictError(CallerError):
    """This Idempotency-Key was used for another request: a new request needs a new key."""

    status = 409
    code = "idempotency_conflict"


class TurnCancelledError(CallerError):
    """The turn was cancelled before its answer was complete."""

    status = 409
    code = "turn_cancelled"


class EventsGoneError(CallerError):
    """What came before is no longer kept: ask again."""

    status = 410
    code = "events_gone"


class PayloadTooLargeError(CallerError):
    """The request body is too large."""

    status = 413
    code = "payload_too_large"


class UnsupportedMediaTypeError(CallerError):
    """The request body must be JSON: send 'Content-Type: application/json'."""

    status = 415
    code = "unsupported_media_type"


class UpgradeRequiredError(CallerError):
    """This path speaks WebSocket only."""

    status = 426
    code = "upgrade_required"


class RateLimitedError(CallerError):
    """This API key asks faster than it may; please wait."""

    status = 429
    code = "rate_limited"
    retryable = True
    retry_after_s = 1


class HeadersTooLargeError(CallerError):
    """The request's headers are too many or too large."""

    status = 431
    code = "headers_too_large"


class OverloadedError(RaydeskError):
    """The service is at its limit; please try again in a moment."""

    status = 503
    code = "overloaded"
    retryable = True
    retry_after_s = 2


class DependencyError(RaydeskError):
    """A part of the service did not answer."""

    status = 503
    code = "dependency_failed"
    retryable = True
    retry_after_s: int | None = 5


class DeadlineExceededError(DependencyError):
    """The answer was not ready in time."""

    status = 504
    code = "deadline_exceeded"


class EngineDiedError(DependencyError):
    """The model stopped while it was answering; please ask again."""

    status = 502
    code = "engine_died"


class EngineRefusedError(DependencyError):
    """The model could not take this question."""

    status = 502
    code = "engine_refused"
    retryable = False
    retry_after_s = None


class EngineBusyError(DependencyError):
    """The model is at its limit; please try again in a moment."""

    code = "engine_busy"

    def __init__(self, message: str = "", retry_after_s: int | None = None) -> None:
        super().__init__(message)
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s  # whole seconds that the engine asked to be left alone


class TurnLostError(DependencyError):
    """The part of the service that was answering is gone; please ask again."""

    code = "turn_lost"


class RoomUnavailableError(DependencyError):
    """A part of the service is starting or away; please try again in a moment."""

    code = "room_unavailable"


class InternalError(RaydeskError):
    """Something went wrong on our side."""


@dataclass(frozen=True, slots=True)
class ErrorEntry:
    """One line of the table of errors."""

    code: str
    status: int  # HTTP
    sentence: str  # what a caller is told, unless something more exact is known
    retryable: bool  # whether the same request may succeed later
    retry_after_s: int | None  # after how long, seconds; None with `retryable`: at once


def error_table() -> list[ErrorEntry]:
    """Every code that a caller can meet, by status."""
    entries = {
        error.code: ErrorEntry(error.code, error.status, error().message, error.retryable, error.retry_after_s)
        for error in reversed(all_errors())
        if error not in (RaydeskError, CallerError)  # never raised themselves
    }
    return sorted(entries.values(), key=lambda entry: (entry.status, entry.code))


def all_errors() -> list[type[RaydeskError]]:
    """The whole tree, for the documentation and its tests."""
    found: list[type[RaydeskError]] = []
    pending: list[type[RaydeskError]] = [RaydeskError]
    while pending:
        error = pending.pop()
        found.append(error)
        pending.extend(error.__subclasses__())
    return sorted(found, key=lambda error: error.__name__)
