-- Tokens with which agents get their first certificate. Only a digest is kept.

CREATE TABLE enrolment_tokens (
    -- SHA-256 of the token.
    token_digest bytea PRIMARY KEY,
    -- What certificates will name.
    identity     text NOT NULL,
    create_time  timestamptz NOT NULL DEFAULT now(),
    expire_time  timestamptz NOT NULL,
    -- The one public key that it was used for (SHA-256), and when. NULL: not used yet.
    key_digest   bytea,
    use_time     timestamptz
);
