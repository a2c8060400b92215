"""An OpenID provider for tests, on loopback: it asks nobody anything and signs in whoever ``person`` names."""

from __future__ import annotations

import socket
import threading
import time
from urllib.parse import urlencode

import uvicorn
from joserfc import jwk, jwt
from starlette.applications import Starlette
from starlette.responses import JSONResponse, RedirectResponse
from starlette.routing import Route


class Provider:
    """Discovery, authorisation, tokens and keys at ``url``, on a port that was free."""

    def __init__(self, client_id: str):
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url, self.client_id = f"http://127.0.0.1:{self.listening.getsockname()[1]}", client_id
        self.person = {"email": "ana@example.org", "email_verified": True}
        self.key = jwk.RSAKey.generate_key(2048, parameters={"kid": "1", "alg": "RS256", "use": "sig"})
        self.nonce = None
        routes = [
            Route("/.well-known/openid-configuration", self.discovery),
            Route("/authorize", self.authorize),
            Route("/token", self.token, methods=["POST"]),
            Route("/keys", self.keys),
        ]
        self.server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_level="error"))
        self.thread = threading.Thread(target=self.server.run, args=([self.listening],), daemon=True)

    def __enter__(self) -> Provider:
        self.thread.start()
        while not self.server.started:
            time.sleep(0.02)
        return self

    def __exit__(self, *_error) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=10)
        self.listening.close()

    async def discovery(self, _request):
        """Where everything is."""
        return JSONResponse(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "code_challenge_methods_supported": ["S256"],
            }
        )

    async def authorize(self, request):
        """Straight back, with a code."""
        self.nonce = request.query_params.get("nonce")
        back = urlencode({"code": "the-code", "state": request.query_params["state"]})
        return RedirectResponse(f"{request.query_params['redirect_uri']}?{back}")

    async def token(self, _request):
        """The signed identity."""
        now = int(time.time())
        claims = {"iss": self.url, "aud": self.client_id, "sub": "1", "iat": now, "exp": now + 600, "nonce": self.nonce}
        signed = jwt.encode({"alg": "RS256", "kid": "1"}, claims | self.person, self.key)
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": signed})

    async def keys(self, _request):
        """What the signature is checked with."""
        return JSONResponse({"keys": [self.key.as_dict(private=False)]})
