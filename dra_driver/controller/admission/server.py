"""The webhook server: TLS, one path for each kind of admission, and answers that the API server understands.

What is not a review, comes too slowly or is too large is turned away before anybody looks into it. When a review cannot
be answered the API server gets an HTTP error, so that the failure policy decides, as it does when nobody answers.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping

import structlog
from aiohttp import web

from dra_driver.addresses import split_address
from dra_driver.controller.admission.certificates import Pair
from dra_driver.controller.admission.metrics import AdmissionMetrics
from dra_driver.controller.admission.review import Answer, Review, Reviewer, parse_review, write_answer
from dra_driver.controller.admission.sources import CertificateUnusable
from dra_driver.errors import HamiDraError, ObjectRejected, SettingsRejected
from dra_driver.kube.credentials import load_certificate

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# The API server takes requests of 3 MiB; a review of an update holds two objects.
_LARGEST_BODY = 7 * 1024 * 1024
# The API server waits 10 s unless told otherwise, and 30 s at most.
_SECONDS = 10.0
# The API server's client drops idle connections after 90 s. It must be the one to do so: a connection that is closed
# here just when a review is sent would be an error there.
_KEEP_ALIVE_SECONDS = 300.0
_STOPPING_SECONDS = 10.0
# For how long calls are still answered after the end was asked for: that long it may take until no node leads them
# here any more.
_LEAVING_SECONDS = 5.0
# For how long the rest of a body is read that has been turned away.
_LINGERING_SECONDS = 1.0


class ServerCertificate:
    """The server's side of TLS, whose certificate can change while it serves."""

    def __init__(self) -> None:
        self.context = _context()
        self._pair: Pair | None = None

    def use(self, pair: Pair) -> bool:
        """Serve this from the next connection on; returns whether it is another. Raises CertificateUnusable."""
        if pair == self._pair:
            return False
        try:
            # Tried apart first, since a context that took a certificate without its key would serve nothing.
            load_certificate(_context(), pair.certificate, pair.key)
            load_certificate(self.context, pair.certificate, pair.key)
        except (ssl.SSLError, OSError) as error:
            raise CertificateUnusable(f"certificate of the admission server: {error}") from error
        self._pair = pair
        return True


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class AdmissionServer:
    """Serves reviewers, each under `/<name>`."""

    def __init__(
        self,
        address: str,
        *,
        reviewers: Mapping[str, Reviewer],
        certificate: ServerCertificate,
        metrics: AdmissionMetrics,
        seconds: float = _SECONDS,
        leaving_seconds: float = _LEAVING_SECONDS,
    ) -> None:
        """`address`: host:port; port 0 takes a free one. `seconds`: for how long one review may take."""
        self._host, self._port = split_address(address)
        self._certificate = certificate
        self._metrics = metrics
        self._seconds = seconds
        self._leaving_seconds = leaving_seconds
        self._leaving = False
        application = web.Application(client_max_size=_LARGEST_BODY)
        for name, reviewer in reviewers.items():
            application.router.add_post(f"/{name}", self._handler(name, reviewer))
        self._runner = web.AppRunner(
            application,
            access_log=None,
            keepalive_timeout=_KEEP_ALIVE_SECONDS,
            lingering_time=_LINGERING_SECONDS,
            shutdown_timeout=_STOPPING_SECONDS,
        )

    async def start(self) -> str:
        """Serve; returns the address that it got. Raises SettingsRejected where that cannot be had."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host or None, self._port, ssl_context=self._certificate.context)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise SettingsRejected(f"setting admission_address: {self._host}:{self._port}: {error.strerror}") from error
        host, port = self._runner.addresses[0][:2]
        return f"{host}:{port}"

    async def stop(self) -> None:
        """Take leave of the callers, finish what is being answered, and stop.

        A connection that is closed here just when a review is sent is an error there. So callers are told first to
        close theirs after the answer, and what is closed in the end has not been used for a while.
        """
        self._leaving = True
        if self._runner.sites:
            await asyncio.sleep(self._leaving_seconds)
        await self._runner.cleanup()

    def _handler(self, name: str, reviewer: Reviewer) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            with self._metrics.measured(name):
                async with asyncio.timeout(self._seconds):
                    review = parse_review(await request.read())
                    answer = await reviewer.review(review)
            self._metrics.answered(name, answer)
            _tell(name, review, answer)
            response = web.Response(body=write_answer(review.uid, answer), content_type="application/json")
            if self._leaving:
                response.force_close()
            return response

        return _failing_closed(name, answer)


def _failing_closed(
    name: str, answer: Callable[[web.Request], Awaitable[web.Response]]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Turn what cannot be answered into an HTTP error, and never into a yes."""

    async def guarded(request: web.Request) -> web.Response:
        try:
            return await answer(request)
        except web.HTTPException as error:
            return _failed(name, error.status, error.reason)
        except ObjectRejected as error:
            return _failed(name, 400, str(error))
        except TimeoutError:
            return _failed(name, 504, "this took too long")
        except HamiDraError as error:
            return _failed(name, 500, str(error))
        except Exception:
            # A mistake of ours must not let an object through, nor end the connection without a word.
            log.exception("review_broke", webhook=name)
            return _failed(name, 500, "an error of the controller's own, which its log tells")

    return guarded


def _failed(name: str, status: int, problem: str) -> web.Response:
    log.warning("review_failed", webhook=name, status=status, error=problem)
    return web.Response(status=status, text=f"{problem}\n")


def _tell(name: str, review: Review, answer: Answer) -> None:
    if answer.refusal is not None:
        log.info(
            "refused",
            webhook=name,
            object=review.subject,
            operation=review.operation.value,
            reason=answer.refusal.reason,
            error=answer.refusal.message,
            dry_run=review.dry_run,
        )
