-- Who may call, and who did what.

-- Bearer tokens. The secret is nowhere: only its SHA-256.
CREATE TABLE tokens (
    token_id       uuid PRIMARY KEY,
    secret_hash    bytea NOT NULL UNIQUE,
    name           text NOT NULL,
    -- Numbers of agentic.orchestrator.v1.Role.
    roles          smallint[] NOT NULL,
    namespaces     text[] NOT NULL,
    creator        text NOT NULL,
    create_time    timestamptz NOT NULL,
    expire_time    timestamptz,
    revoke_time    timestamptz
);

-- Each row is sealed together with the one before; the contract says how (audit_service.proto).
CREATE TABLE audit (
    sequence       bigint PRIMARY KEY,
    time           timestamptz NOT NULL,
    actor          text NOT NULL,
    credential     text NOT NULL,
    address        text NOT NULL,
    method         text NOT NULL,
    namespace      text NOT NULL,
    subject        text NOT NULL,
    decision_digest text NOT NULL,
    content_digest text NOT NULL,
    outcome        text NOT NULL,
    reason         text NOT NULL,
    trace_id       text NOT NULL,
    previous_hash  text NOT NULL,
    hash           text NOT NULL
);
CREATE INDEX audit_by_actor ON audit (actor, sequence);
CREATE INDEX audit_by_subject ON audit (subject, sequence) WHERE subject <> '';

-- One row: the newest entry. Whoever appends holds it for one short transaction.
CREATE TABLE audit_head (
    is_head        boolean PRIMARY KEY DEFAULT true CHECK (is_head),
    sequence       bigint NOT NULL,
    hash           text NOT NULL
);
INSERT INTO audit_head (sequence, hash) VALUES (0, repeat('0', 64));

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END
$$;
CREATE TRIGGER audit_rows_stay BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_stays BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
