"""Errors as the wire shows them: one envelope for every endpoint, which is OpenAI's with our additions.

The classes themselves are `deployments/answering/errors.py`. Only `BadRequestError` is added here: a 400 that names
the field, which nothing behind the HTTP side can raise. Causes never leave through this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from starlette.exceptions import HTTPException

from deployments.answering.errors import InternalError, MethodNotAllowedError, NotFoundError, RaydeskError, all_errors
from deployments.answering.types import Failed

BadRequestCode = Literal["invalid_request", "invalid_json", "unsupported_parameter"]


class BadRequestError(Exception):
    """A 400 whose code and parameter name say what to change."""

    def __init__(self, message: str, *, param: str | None = None, code: BadRequestCode = "invalid_request") -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


class FailedTurnError(Exception):
    """A turn that failed before anything was sent: carries the `Failed` event to the error response."""

    def __init__(self, event: Failed) -> None:
        super().__init__(event.message)
        self.event = event


@dataclass(frozen=True, slots=True)
class PublicError:
    """What a customer may know about an error."""

    status: int
    code: str
    message: str
    retryable: bool = False
    retry_after_s: int | None = None
    param: str | None = None

    @property
    def type(self) -> str:
        """The family, in OpenAI's words."""
        if self.status == 401:
            return "authentication_error"
        if self.status == 403:
            return "permission_error"
        if self.status == 429:
            return "rate_limit_error"
        return "invalid_request_error" if self.status < 500 else "server_error"

    def body(self, request_id: str) -> dict[str, Any]:
        return {
            "error": {
                "code": self.code,
                "message": self.message,
                "request_id": request_id,
                "retryable": self.retryable,
                "type": self.type,
                "param": self.param,
            }
        }

    def headers(self) -> dict[str, str]:
        headers = {}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(self.retry_after_s)
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        if self.status == 426:
            headers["upgrade"] = "websocket"
        return headers

    def failed(self, request_id: str) -> Failed:
        """The same error as the last event of a stream that has begun."""
        return Failed(self.code, self.message, self.retryable, request_id, self.retry_after_s)


def public_error(error: Exception) -> PublicError | None:
    """What to tell the customer; None for an exception that nobody foresaw."""
    if isinstance(error, RaydeskError):
        return PublicError(error.status, error.code, error.message, error.retryable, error.retry_after_s)
    if isinstance(error, BadRequestError):
        return PublicError(400, error.code, error.message, param=error.param)
    if isinstance(error, FailedTurnError):
        return failed_turn(error.event)
    if isinstance(error, HTTPException):
        return _routing_error(error)
    return None


def internal_error() -> PublicError:
    """All that a customer hears of a fault of ours."""
    return PublicError(InternalError.status, InternalError.code, InternalError().message)


def failed_turn(event: Failed) -> PublicError:
    status = _status_by_code().get(event.code, 500)
    return PublicError(status, event.code, event.message, event.retryable, event.retry_after_s)


def _routing_error(error: HTTPException) -> PublicError:
    """Starlette's own errors: unknown path, wrong method, and the few that static files raise."""
    known: Mapping[int, type[RaydeskError]] = {404: NotFoundError, 405: MethodNotAllowedError}
    if cls := known.get(error.status_code):
        return PublicError(cls.status, cls.code, cls().message)
    return PublicError(
        error.status_code, "invalid_request" if error.status_code < 500 else "internal_error", error.detail
    )


def _status_by_code() -> dict[str, int]:
    return {cls.code: cls.status for cls in all_errors()}
