-- The tables, publication and role of docs/getting-started.md.
CREATE TABLE lists (id text PRIMARY KEY, owner_id text NOT NULL, name text NOT NULL);
CREATE TABLE todos (id text PRIMARY KEY, list_id text NOT NULL REFERENCES lists,
                    description text NOT NULL, completed integer NOT NULL DEFAULT 0);
INSERT INTO lists VALUES ('l1', 'u1', 'groceries');
INSERT INTO todos VALUES ('t1', 'l1', 'buy milk');

CREATE PUBLICATION powersync FOR TABLE lists, todos;
CREATE ROLE tidewater WITH LOGIN REPLICATION PASSWORD 'development';
GRANT USAGE ON SCHEMA public TO tidewater;
GRANT SELECT ON lists, todos TO tidewater;
