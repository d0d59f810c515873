"""A Flask application without instrumentation: http://127.0.0.1:5050/primes/20000 counts prime numbers."""

import logging
import os

from flask import Flask, Response, jsonify

logging.basicConfig(level=logging.INFO)
log = logging.getLogger("primes")
app = Flask(__name__)


@app.get("/primes/<int:limit>")
def primes(limit: int) -> Response:
    """Count the primes below a limit."""
    found = [n for n in range(2, min(limit, 50_000)) if all(n % d for d in range(2, int(n**0.5) + 1))]
    log.info("primes found")
    return jsonify(count=len(found))


if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "5050")))
