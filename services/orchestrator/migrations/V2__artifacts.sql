-- Artifacts of workflows. The bytes are in the artifact store, by digest; a digest without a row here is not served.

CREATE TABLE artifacts (
    -- Order in which they were stored.
    position       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    artifact_id    uuid NOT NULL UNIQUE,
    namespace      text NOT NULL DEFAULT 'default',
    digest         text NOT NULL,
    size_bytes     bigint NOT NULL,
    media_type     text NOT NULL,
    name           text NOT NULL,
    workflow_id    uuid,
    stage          text,
    task_id        uuid,
    attempt        int NOT NULL DEFAULT 0,
    create_time    timestamptz NOT NULL DEFAULT now()
);

-- The same upload twice is one artifact. (`NULLS NOT DISTINCT` needs a newer server than we ask for.)
CREATE UNIQUE INDEX artifacts_once ON artifacts (
    namespace,
    coalesce(workflow_id, '00000000-0000-0000-0000-000000000000'::uuid),
    coalesce(stage, ''),
    coalesce(task_id, '00000000-0000-0000-0000-000000000000'::uuid),
    attempt,
    name,
    digest
);
CREATE INDEX artifacts_by_workflow ON artifacts (namespace, workflow_id, position);
CREATE INDEX artifacts_by_digest ON artifacts (namespace, digest);
