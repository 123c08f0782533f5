-- Certificates that agents were issued, until a day after their end, and which of them are refused before it.

CREATE TABLE certificates (
    -- Serial number, in hexadecimal digits.
    serial      text PRIMARY KEY,
    -- What it names.
    identity    text NOT NULL,
    -- Serial number of the one that it was renewed from, at the beginning of the row: who has one of them had all of them.
    origin      text NOT NULL,
    issue_time  timestamptz NOT NULL DEFAULT now(),
    expire_time timestamptz NOT NULL,
    -- NULL: it is good.
    revoke_time timestamptz
);

CREATE INDEX certificates_by_origin ON certificates (origin);
CREATE INDEX certificates_by_identity ON certificates (identity);
CREATE INDEX certificates_revoked ON certificates (serial) WHERE revoke_time IS NOT NULL;
