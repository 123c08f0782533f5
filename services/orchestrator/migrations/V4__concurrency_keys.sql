-- Concurrency keys: of the tasks with one key, one is leased at a time.

ALTER TABLE tasks
    -- Empty: none.
    ADD COLUMN concurrency_key text NOT NULL DEFAULT '',
    -- Its key was taken when it could have been claimed; whoever gives the key up wakes it.
    ADD COLUMN parked boolean NOT NULL DEFAULT false;

DROP INDEX tasks_waiting;
CREATE INDEX tasks_waiting ON tasks (agent_type, order_time) WHERE NOT leased AND NOT parked;
-- Two replicas can never lease the same key.
CREATE UNIQUE INDEX tasks_by_held_key ON tasks (namespace, concurrency_key)
    WHERE leased AND concurrency_key <> '';
CREATE INDEX tasks_by_wanted_key ON tasks (namespace, concurrency_key, agent_type, order_time)
    WHERE NOT leased AND concurrency_key <> '';
