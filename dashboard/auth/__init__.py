"""Who is there: identities, OpenID Connect, and what this process serves."""
