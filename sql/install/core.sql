/*
 * core.sql
 *		The fleet: drones, swarms, missions, communication, models.
 *
 * Order matters twice: here, and when a dump is restored, where pg_dump follows
 * the foreign keys between these tables.  They must therefore stay free of
 * cycles, a table's with itself included: a drone points at its swarm, a swarm's
 * leader is a member's role, and an answer names its message without a key.
 * A trigger must not act on INSERT, or a restore would act a second time.
 */

CREATE SCHEMA core;
COMMENT ON SCHEMA core IS 'sentient_edge: drones, swarms, missions, communication and models';
GRANT USAGE ON SCHEMA core TO sentient_viewer;

-- Names nothing but pg_catalog objects, so no search_path can lead it astray.
CREATE FUNCTION core.touch_updated_at() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
	NEW.updated_at := pg_catalog.now();
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION core.touch_updated_at() IS
'Trigger (BEFORE UPDATE, each row): sets updated_at to the start of the transaction. For triggers only.';

/*
 * Statuses of a drone, and which may follow which
 *
 * Rows that came with the extension are there again before a dump's rows are
 * restored; an INSERT of an existing key therefore updates the row instead.
 */
CREATE TABLE core.drone_statuses (
	status text PRIMARY KEY CHECK (status ~ '^[a-z][a-z0-9_]{0,62}$'),
	description text NOT NULL,
	is_flying boolean NOT NULL DEFAULT false,
	is_assignable boolean NOT NULL DEFAULT false,
	is_builtin boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE core.drone_statuses IS 'Statuses that a drone can have; rows may be added. An INSERT of an existing status updates its row.';
COMMENT ON COLUMN core.drone_statuses.status IS 'Name of the status';
COMMENT ON COLUMN core.drone_statuses.description IS 'What the status means';
COMMENT ON COLUMN core.drone_statuses.is_flying IS 'The drone is in the air or about to be, so silence on its link is an alarm';
COMMENT ON COLUMN core.drone_statuses.is_assignable IS 'A drone of this status can be assigned to a mission';
COMMENT ON COLUMN core.drone_statuses.is_builtin IS 'Came with the extension; cannot be deleted';

CREATE TABLE core.drone_status_transitions (
	from_status text NOT NULL REFERENCES core.drone_statuses ON UPDATE CASCADE,
	to_status text NOT NULL REFERENCES core.drone_statuses ON UPDATE CASCADE,
	is_allowed boolean NOT NULL DEFAULT true,
	is_builtin boolean NOT NULL DEFAULT false,
	PRIMARY KEY (from_status, to_status),
	CHECK (from_status <> to_status)
);
CREATE INDEX drone_status_transitions_to_status_idx ON core.drone_status_transitions (to_status);
COMMENT ON TABLE core.drone_status_transitions IS 'Which status may follow which; a pair without a row is not allowed. An INSERT of an existing pair updates its row.';
COMMENT ON COLUMN core.drone_status_transitions.from_status IS 'Status before the change';
COMMENT ON COLUMN core.drone_status_transitions.to_status IS 'Status after the change';
COMMENT ON COLUMN core.drone_status_transitions.is_allowed IS 'False switches a pair off that came with the extension';
COMMENT ON COLUMN core.drone_status_transitions.is_builtin IS 'Came with the extension; cannot be deleted, only switched off';

INSERT INTO core.drone_statuses (status, description, is_flying, is_assignable, is_builtin) VALUES
	('offline', 'not powered or not connected', false, true, true),
	('standby', 'powered, connected and ready', false, true, true),
	('active', 'flying or carrying out a mission', true, true, true),
	('returning', 'on its way back', true, false, true),
	('charging', 'on the ground, charging or changing batteries', false, false, true),
	('maintenance', 'in service, not to be flown', false, false, true),
	('emergency', 'in distress, needs an operator', true, false, true),
	('lost', 'contact or aircraft lost', false, false, true),
	('retired', 'out of service for good', false, false, true);

INSERT INTO core.drone_status_transitions (from_status, to_status, is_builtin) VALUES
	('offline', 'standby', true), ('offline', 'maintenance', true), ('offline', 'lost', true), ('offline', 'retired', true),
	('standby', 'offline', true), ('standby', 'active', true), ('standby', 'charging', true),
	('standby', 'maintenance', true), ('standby', 'emergency', true),
	('active', 'standby', true), ('active', 'returning', true), ('active', 'emergency', true), ('active', 'lost', true),
	('returning', 'active', true), ('returning', 'standby', true), ('returning', 'charging', true),
	('returning', 'emergency', true), ('returning', 'lost', true),
	('charging', 'standby', true), ('charging', 'offline', true), ('charging', 'maintenance', true),
	('charging', 'emergency', true),
	('maintenance', 'offline', true), ('maintenance', 'standby', true), ('maintenance', 'retired', true),
	('emergency', 'returning', true), ('emergency', 'standby', true), ('emergency', 'maintenance', true),
	('emergency', 'offline', true), ('emergency', 'lost', true),
	('lost', 'offline', true), ('lost', 'active', true), ('lost', 'returning', true),
	('lost', 'maintenance', true), ('lost', 'retired', true);

CREATE FUNCTION core.merge_drone_status() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE core.drone_statuses
	   SET description = NEW.description, is_flying = NEW.is_flying,
		   is_assignable = NEW.is_assignable, is_builtin = is_builtin OR NEW.is_builtin
	 WHERE status = NEW.status;
	IF FOUND THEN
		RETURN NULL;
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION core.merge_drone_status() IS
'Trigger (BEFORE INSERT, each row): updates the row of an existing status, so that a dump restores over the rows of a new installation. For triggers only.';

CREATE FUNCTION core.merge_drone_status_transition() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE core.drone_status_transitions
	   SET is_allowed = NEW.is_allowed, is_builtin = is_builtin OR NEW.is_builtin
	 WHERE from_status = NEW.from_status AND to_status = NEW.to_status;
	IF FOUND THEN
		RETURN NULL;
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION core.merge_drone_status_transition() IS
'Trigger (BEFORE INSERT, each row): updates the row of an existing pair, so that a dump restores over the rows of a new installation. For triggers only.';

-- A dump cannot tell that a row is gone, so such a row would be back after a restore.
CREATE FUNCTION core.keep_builtin_row() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION 'row of table "%.%" came with the extension and cannot be deleted or renamed', TG_TABLE_SCHEMA, TG_TABLE_NAME
		USING ERRCODE = 'object_not_in_prerequisite_state',
			  HINT = CASE TG_TABLE_NAME WHEN 'drone_status_transitions' THEN 'Set is_allowed to false instead.'
					 ELSE 'Switch off the transitions that lead to it instead.' END;
END
$$;
COMMENT ON FUNCTION core.keep_builtin_row() IS
'Trigger (BEFORE DELETE or UPDATE, each row): refuses, with SQLSTATE 55000, to lose a row that came with the extension. For triggers only.';

CREATE TRIGGER merge_existing BEFORE INSERT ON core.drone_statuses
	FOR EACH ROW EXECUTE FUNCTION core.merge_drone_status();
CREATE TRIGGER merge_existing BEFORE INSERT ON core.drone_status_transitions
	FOR EACH ROW EXECUTE FUNCTION core.merge_drone_status_transition();
CREATE TRIGGER keep_builtin BEFORE DELETE ON core.drone_statuses
	FOR EACH ROW WHEN (OLD.is_builtin) EXECUTE FUNCTION core.keep_builtin_row();
CREATE TRIGGER keep_builtin BEFORE DELETE ON core.drone_status_transitions
	FOR EACH ROW WHEN (OLD.is_builtin) EXECUTE FUNCTION core.keep_builtin_row();
CREATE TRIGGER keep_builtin_name BEFORE UPDATE ON core.drone_statuses
	FOR EACH ROW WHEN (OLD.is_builtin AND (NEW.status <> OLD.status OR NOT NEW.is_builtin))
	EXECUTE FUNCTION core.keep_builtin_row();
CREATE TRIGGER keep_builtin_name BEFORE UPDATE ON core.drone_status_transitions
	FOR EACH ROW WHEN (OLD.is_builtin AND (NEW.from_status <> OLD.from_status OR NEW.to_status <> OLD.to_status OR NOT NEW.is_builtin))
	EXECUTE FUNCTION core.keep_builtin_row();

/*
 * Swarms and drones
 */
CREATE TABLE core.swarms (
	swarm_id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
	name text NOT NULL UNIQUE CHECK (name ~ '\S'),
	description text,
	status text NOT NULL DEFAULT 'forming' CHECK (status IN ('forming', 'active', 'suspended', 'disbanded')),
	formation text,
	max_size integer CHECK (max_size > 0),
	metadata jsonb NOT NULL DEFAULT '{}' CHECK (pg_catalog.jsonb_typeof(metadata) = 'object'),
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	updated_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE INDEX swarms_current_idx ON core.swarms (status, name) WHERE status <> 'disbanded';
COMMENT ON TABLE core.swarms IS 'Groups of drones that act together';
COMMENT ON COLUMN core.swarms.swarm_id IS 'Identifies the swarm';
COMMENT ON COLUMN core.swarms.name IS 'Name of the swarm';
COMMENT ON COLUMN core.swarms.description IS 'What the swarm is for';
COMMENT ON COLUMN core.swarms.status IS 'forming, active, suspended or disbanded';
COMMENT ON COLUMN core.swarms.formation IS 'Formation that is flown';
COMMENT ON COLUMN core.swarms.max_size IS 'Largest number of members; NULL is no limit';
COMMENT ON COLUMN core.swarms.metadata IS 'Whatever else is known, an object';
COMMENT ON COLUMN core.swarms.created_at IS 'Time of the row''s insertion';
COMMENT ON COLUMN core.swarms.updated_at IS 'Time of the row''s last change';

CREATE TABLE core.drones (
	drone_id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
	call_sign text NOT NULL UNIQUE CHECK (call_sign ~ '\S' AND pg_catalog.length(call_sign) <= 128),
	drone_type text NOT NULL CHECK (drone_type ~ '\S'),
	status text NOT NULL DEFAULT 'offline' REFERENCES core.drone_statuses ON UPDATE CASCADE,
	model text,
	serial_number sentient_edge.sealed CHECK (serial_number IS NULL OR sentient_edge.sealed_search_key_id(serial_number) IS NOT NULL),
	swarm_id uuid REFERENCES core.swarms ON DELETE SET NULL,
	metadata jsonb NOT NULL DEFAULT '{}' CHECK (pg_catalog.jsonb_typeof(metadata) = 'object'),
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	updated_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE INDEX drones_status_type_idx ON core.drones (status, drone_type, drone_id);
CREATE INDEX drones_type_idx ON core.drones (drone_type, drone_id);
CREATE UNIQUE INDEX drones_serial_number_key ON core.drones (serial_number) WHERE serial_number IS NOT NULL;
CREATE INDEX drones_swarm_id_idx ON core.drones (swarm_id) WHERE swarm_id IS NOT NULL;
CREATE INDEX drones_metadata_idx ON core.drones USING gin (metadata jsonb_path_ops);
COMMENT ON TABLE core.drones IS 'Every drone of the fleet; only call_sign and drone_type must be given';
COMMENT ON COLUMN core.drones.drone_id IS 'Identifies the drone in every other table';
COMMENT ON COLUMN core.drones.call_sign IS 'Name on the air, unique in the fleet';
COMMENT ON COLUMN core.drones.drone_type IS 'Kind of aircraft, such as quadcopter, vtol or fixed_wing';
COMMENT ON COLUMN core.drones.status IS 'Current status, one of core.drone_statuses';
COMMENT ON COLUMN core.drones.model IS 'Maker''s model name';
COMMENT ON COLUMN core.drones.serial_number IS 'Maker''s serial number, sealed and searchable; see core.set_drone_serial_number';
COMMENT ON COLUMN core.drones.swarm_id IS 'Swarm that the drone flies with now; core.swarm_members tells since when and as what';
COMMENT ON COLUMN core.drones.metadata IS 'Whatever else is known, an object';
COMMENT ON COLUMN core.drones.created_at IS 'Time of the row''s insertion';
COMMENT ON COLUMN core.drones.updated_at IS 'Time of the row''s last change';

CREATE TABLE core.drone_status_history (
	history_id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
	drone_id uuid NOT NULL REFERENCES core.drones ON DELETE CASCADE,
	from_status text NOT NULL,
	to_status text NOT NULL,
	reason text,
	changed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	changed_by uuid,
	db_role name NOT NULL
);
CREATE INDEX drone_status_history_drone_idx ON core.drone_status_history (drone_id, changed_at DESC);
CREATE INDEX drone_status_history_changed_at_idx ON core.drone_status_history (changed_at);
COMMENT ON TABLE core.drone_status_history IS 'Every change of a drone''s status, written by a trigger';
COMMENT ON COLUMN core.drone_status_history.history_id IS 'Identifies the change';
COMMENT ON COLUMN core.drone_status_history.drone_id IS 'Drone whose status changed';
COMMENT ON COLUMN core.drone_status_history.from_status IS 'Status before; no foreign key, so that history outlives a status';
COMMENT ON COLUMN core.drone_status_history.to_status IS 'Status after';
COMMENT ON COLUMN core.drone_status_history.reason IS 'Reason that was given for the change';
COMMENT ON COLUMN core.drone_status_history.changed_at IS 'Time of the change, increasing within a transaction';
COMMENT ON COLUMN core.drone_status_history.changed_by IS 'Verified user who changed it; NULL when none was known. No foreign key, so that history outlives the user';
COMMENT ON COLUMN core.drone_status_history.db_role IS 'Database role that changed it';

-- Runs as the owner, so that nobody needs the right to write history by hand.
-- current_user is the owner here: the caller's role is what SET ROLE left, or the login.
CREATE FUNCTION core.record_drone_status() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO core.drone_status_history (drone_id, from_status, to_status, db_role)
	VALUES (NEW.drone_id, OLD.status, NEW.status,
			coalesce(nullif(current_setting('role'), 'none'), session_user));
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION core.record_drone_status() IS
'Trigger (AFTER UPDATE, each row): adds the change of a drone''s status to core.drone_status_history. For triggers only.';

CREATE TRIGGER record_status AFTER UPDATE ON core.drones
	FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status)
	EXECUTE FUNCTION core.record_drone_status();

CREATE TABLE core.swarm_members (
	swarm_id uuid NOT NULL REFERENCES core.swarms ON DELETE CASCADE,
	drone_id uuid NOT NULL REFERENCES core.drones ON DELETE CASCADE,
	role text NOT NULL DEFAULT 'member' CHECK (role IN ('leader', 'deputy', 'relay', 'member')),
	position_in_formation integer CHECK (position_in_formation >= 0),
	joined_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	left_at timestamptz CHECK (left_at >= joined_at),
	updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	PRIMARY KEY (swarm_id, drone_id, joined_at)
);
CREATE UNIQUE INDEX swarm_members_one_swarm_idx ON core.swarm_members (drone_id) WHERE left_at IS NULL;
CREATE UNIQUE INDEX swarm_members_one_leader_idx ON core.swarm_members (swarm_id) WHERE role = 'leader' AND left_at IS NULL;
CREATE INDEX swarm_members_drone_idx ON core.swarm_members (drone_id, joined_at DESC);
COMMENT ON TABLE core.swarm_members IS 'Who belongs or belonged to which swarm, and as what; a drone is in one swarm at a time, a swarm has one leader';
COMMENT ON COLUMN core.swarm_members.swarm_id IS 'Swarm';
COMMENT ON COLUMN core.swarm_members.drone_id IS 'Member';
COMMENT ON COLUMN core.swarm_members.role IS 'leader, deputy, relay or member';
COMMENT ON COLUMN core.swarm_members.position_in_formation IS 'Place in the formation, from 0';
COMMENT ON COLUMN core.swarm_members.joined_at IS 'Time of joining';
COMMENT ON COLUMN core.swarm_members.left_at IS 'Time of leaving; NULL while a member';
COMMENT ON COLUMN core.swarm_members.updated_at IS 'Time of the row''s last change';

/*
 * Missions
 */
CREATE TABLE core.missions (
	mission_id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
	name text NOT NULL CHECK (name ~ '\S'),
	objective text,
	status text NOT NULL DEFAULT 'planned' CHECK (status IN ('planned', 'active', 'paused', 'completed', 'aborted')),
	threat_level smallint NOT NULL DEFAULT 0 CHECK (threat_level BETWEEN 0 AND 5),
	priority smallint NOT NULL DEFAULT 5 CHECK (priority BETWEEN 0 AND 10),
	planned_start timestamptz,
	planned_end timestamptz CHECK (planned_end >= planned_start),
	started_at timestamptz,
	ended_at timestamptz CHECK (ended_at >= started_at),
	created_by uuid,
	metadata jsonb NOT NULL DEFAULT '{}' CHECK (pg_catalog.jsonb_typeof(metadata) = 'object'),
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	updated_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE INDEX missions_open_idx ON core.missions (priority DESC, planned_start) WHERE status IN ('planned', 'active', 'paused');
CREATE INDEX missions_status_start_idx ON core.missions (status, planned_start);
CREATE INDEX missions_created_by_idx ON core.missions (created_by) WHERE created_by IS NOT NULL;
CREATE INDEX missions_text_idx ON core.missions USING gin (pg_catalog.to_tsvector('pg_catalog.simple'::pg_catalog.regconfig, name || ' ' || coalesce(objective, '')));
COMMENT ON TABLE core.missions IS 'Missions of the fleet, planned and past';
COMMENT ON COLUMN core.missions.mission_id IS 'Identifies the mission';
COMMENT ON COLUMN core.missions.name IS 'Name of the mission';
COMMENT ON COLUMN core.missions.objective IS 'What is to be achieved';
COMMENT ON COLUMN core.missions.status IS 'planned, active, paused, completed or aborted';
COMMENT ON COLUMN core.missions.threat_level IS 'Expected threat, from 0 (none) to 5 (extreme)';
COMMENT ON COLUMN core.missions.priority IS 'Priority, from 0 (lowest) to 10 (highest)';
COMMENT ON COLUMN core.missions.planned_start IS 'Planned begin';
COMMENT ON COLUMN core.missions.planned_end IS 'Planned end, not before the begin';
COMMENT ON COLUMN core.missions.started_at IS 'Actual begin';
COMMENT ON COLUMN core.missions.ended_at IS 'Actual end, not before the begin';
COMMENT ON COLUMN core.missions.created_by IS 'User who made the mission';
COMMENT ON COLUMN core.missions.metadata IS 'Whatever else is known, an object';
COMMENT ON COLUMN core.missions.created_at IS 'Time of the row''s insertion';
COMMENT ON COLUMN core.missions.updated_at IS 'Time of the row''s last change';

CREATE TABLE core.mission_drones (
	mission_id uuid NOT NULL REFERENCES core.missions ON DELETE CASCADE,
	drone_id uuid NOT NULL REFERENCES core.drones,
	role text NOT NULL DEFAULT 'member' CHECK (role ~ '\S'),
	assigned_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	assigned_by uuid,
	released_at timestamptz CHECK (released_at >= assigned_at),
	updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	PRIMARY KEY (mission_id, drone_id)
);
CREATE INDEX mission_drones_drone_idx ON core.mission_drones (drone_id, assigned_at DESC);
CREATE INDEX mission_drones_current_idx ON core.mission_drones (drone_id) WHERE released_at IS NULL;
CREATE INDEX mission_drones_assigned_by_idx ON core.mission_drones (assigned_by) WHERE assigned_by IS NOT NULL;
COMMENT ON TABLE core.mission_drones IS 'Drones that are or were assigned to a mission; a drone with missions cannot be deleted';
COMMENT ON COLUMN core.mission_drones.mission_id IS 'Mission';
COMMENT ON COLUMN core.mission_drones.drone_id IS 'Assigned drone';
COMMENT ON COLUMN core.mission_drones.role IS 'Part that the drone has in the mission';
COMMENT ON COLUMN core.mission_drones.assigned_at IS 'Time of the assignment';
COMMENT ON COLUMN core.mission_drones.assigned_by IS 'User who assigned it';
COMMENT ON COLUMN core.mission_drones.released_at IS 'Time of the release; NULL while assigned';
COMMENT ON COLUMN core.mission_drones.updated_at IS 'Time of the row''s last change';

/*
 * Communication
 */
CREATE TABLE core.communication_channels (
	channel_id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
	name text NOT NULL UNIQUE CHECK (name ~ '\S'),
	channel_type text NOT NULL CHECK (channel_type ~ '\S'),
	status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'inactive', 'degraded', 'failed')),
	endpoint text,
	frequency_mhz double precision CHECK (frequency_mhz > 0 AND frequency_mhz < 'Infinity'),
	bandwidth_kbps double precision CHECK (bandwidth_kbps > 0 AND bandwidth_kbps < 'Infinity'),
	priority smallint NOT NULL DEFAULT 5 CHECK (priority BETWEEN 0 AND 10),
	credentials sentient_edge.sealed,
	metadata jsonb NOT NULL DEFAULT '{}' CHECK (pg_catalog.jsonb_typeof(metadata) = 'object'),
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	updated_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE INDEX communication_channels_usable_idx ON core.communication_channels (channel_type, priority DESC) WHERE status IN ('active', 'degraded');
COMMENT ON TABLE core.communication_channels IS 'Links and networks over which messages go';
COMMENT ON COLUMN core.communication_channels.channel_id IS 'Identifies the channel';
COMMENT ON COLUMN core.communication_channels.name IS 'Name of the channel';
COMMENT ON COLUMN core.communication_channels.channel_type IS 'Kind of link, such as radio, satellite, cellular or mesh';
COMMENT ON COLUMN core.communication_channels.status IS 'active, inactive, degraded or failed';
COMMENT ON COLUMN core.communication_channels.endpoint IS 'Where the channel is reached, without credentials';
COMMENT ON COLUMN core.communication_channels.frequency_mhz IS 'Carrier frequency in MHz';
COMMENT ON COLUMN core.communication_channels.bandwidth_kbps IS 'Usable bandwidth in kbit/s';
COMMENT ON COLUMN core.communication_channels.priority IS 'Preference, from 0 (last) to 10 (first)';
COMMENT ON COLUMN core.communication_channels.credentials IS 'Secret for the channel, sealed; operators set it, only administrators read it';
COMMENT ON COLUMN core.communication_channels.metadata IS 'Whatever else is known, an object';
COMMENT ON COLUMN core.communication_channels.created_at IS 'Time of the row''s insertion';
COMMENT ON COLUMN core.communication_channels.updated_at IS 'Time of the row''s last change';

CREATE TABLE core.messages (
	message_id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
	channel_id uuid REFERENCES core.communication_channels ON DELETE SET NULL,
	mission_id uuid REFERENCES core.missions ON DELETE SET NULL,
	sender_user_id uuid,
	sender_drone_id uuid REFERENCES core.drones ON DELETE SET NULL,
	recipient_user_id uuid,
	recipient_drone_id uuid REFERENCES core.drones ON DELETE SET NULL,
	recipient_swarm_id uuid REFERENCES core.swarms ON DELETE SET NULL,
	message_type text NOT NULL DEFAULT 'text' CHECK (message_type ~ '\S'),
	priority smallint NOT NULL DEFAULT 5 CHECK (priority BETWEEN 0 AND 10),
	subject text,
	body text,
	body_sealed sentient_edge.sealed,
	confidential boolean NOT NULL DEFAULT false,
	reply_to uuid CHECK (reply_to <> message_id),
	sent_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	delivered_at timestamptz,
	read_at timestamptz,
	metadata jsonb NOT NULL DEFAULT '{}' CHECK (pg_catalog.jsonb_typeof(metadata) = 'object'),
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	CONSTRAINT messages_body_check CHECK ((body IS NULL) = confidential AND (body_sealed IS NOT NULL) = confidential)
);
CREATE INDEX messages_sent_at_idx ON core.messages (sent_at);
CREATE INDEX messages_channel_idx ON core.messages (channel_id, sent_at) WHERE channel_id IS NOT NULL;
CREATE INDEX messages_mission_idx ON core.messages (mission_id, sent_at) WHERE mission_id IS NOT NULL;
CREATE INDEX messages_sender_user_idx ON core.messages (sender_user_id, sent_at) WHERE sender_user_id IS NOT NULL;
CREATE INDEX messages_sender_drone_idx ON core.messages (sender_drone_id, sent_at) WHERE sender_drone_id IS NOT NULL;
CREATE INDEX messages_recipient_user_idx ON core.messages (recipient_user_id, sent_at) WHERE recipient_user_id IS NOT NULL;
CREATE INDEX messages_recipient_drone_idx ON core.messages (recipient_drone_id, sent_at) WHERE recipient_drone_id IS NOT NULL;
CREATE INDEX messages_recipient_swarm_idx ON core.messages (recipient_swarm_id, sent_at) WHERE recipient_swarm_id IS NOT NULL;
CREATE INDEX messages_reply_to_idx ON core.messages (reply_to) WHERE reply_to IS NOT NULL;
CREATE INDEX messages_undelivered_idx ON core.messages (priority DESC, sent_at) WHERE delivered_at IS NULL;
-- The words of a confidential message, its subject included, must not stand in an index.
CREATE INDEX messages_text_idx ON core.messages USING gin (pg_catalog.to_tsvector('pg_catalog.simple'::pg_catalog.regconfig, coalesce(subject, '') || ' ' || body)) WHERE NOT confidential;
COMMENT ON TABLE core.messages IS 'Messages between users, drones and swarms; confidential ones are visible to operators only';
COMMENT ON COLUMN core.messages.message_id IS 'Identifies the message';
COMMENT ON COLUMN core.messages.channel_id IS 'Channel it went over';
COMMENT ON COLUMN core.messages.mission_id IS 'Mission it is about';
COMMENT ON COLUMN core.messages.sender_user_id IS 'User who sent it';
COMMENT ON COLUMN core.messages.sender_drone_id IS 'Drone that sent it';
COMMENT ON COLUMN core.messages.recipient_user_id IS 'User it is for';
COMMENT ON COLUMN core.messages.recipient_drone_id IS 'Drone it is for';
COMMENT ON COLUMN core.messages.recipient_swarm_id IS 'Swarm it is for; no recipient at all is a broadcast';
COMMENT ON COLUMN core.messages.message_type IS 'Kind of message, such as text, command, alert or report';
COMMENT ON COLUMN core.messages.priority IS 'Priority, from 0 (lowest) to 10 (highest)';
COMMENT ON COLUMN core.messages.subject IS 'Subject line, in clear even when the text is confidential';
COMMENT ON COLUMN core.messages.body IS 'Text of the message; NULL when it is confidential';
COMMENT ON COLUMN core.messages.body_sealed IS 'Text of a confidential message, sealed; NULL otherwise';
COMMENT ON COLUMN core.messages.confidential IS 'Visible to operators only, sealed, and kept out of the full-text index';
COMMENT ON COLUMN core.messages.reply_to IS 'Message that this one answers, which may be gone';
COMMENT ON COLUMN core.messages.sent_at IS 'Time of sending';
COMMENT ON COLUMN core.messages.delivered_at IS 'Time of delivery; NULL while it waits';
COMMENT ON COLUMN core.messages.read_at IS 'Time of reading';
COMMENT ON COLUMN core.messages.metadata IS 'Whatever else is known, an object';
COMMENT ON COLUMN core.messages.created_at IS 'Time of the row''s insertion';
COMMENT ON COLUMN core.messages.updated_at IS 'Time of the row''s last change';

ALTER TABLE core.messages ENABLE ROW LEVEL SECURITY;
CREATE POLICY viewer_reads_open ON core.messages FOR SELECT TO sentient_viewer USING (NOT confidential);
CREATE POLICY operator_all ON core.messages TO sentient_operator USING (true) WITH CHECK (true);
COMMENT ON POLICY viewer_reads_open ON core.messages IS 'Viewers and analysts read what is not confidential';
COMMENT ON POLICY operator_all ON core.messages IS 'Operators and administrators read and write every message';

/*
 * Models
 */
CREATE TABLE core.ai_models (
	model_id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
	name text NOT NULL CHECK (name ~ '\S'),
	version text NOT NULL CHECK (version ~ '\S'),
	model_type text NOT NULL CHECK (model_type ~ '\S'),
	framework text,
	description text,
	status text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'training', 'validated', 'deployed', 'retired')),
	artifact_uri text,
	artifact_sha256 bytea CHECK (pg_catalog.octet_length(artifact_sha256) = 32),
	parameters jsonb NOT NULL DEFAULT '{}' CHECK (pg_catalog.jsonb_typeof(parameters) = 'object'),
	metrics jsonb NOT NULL DEFAULT '{}' CHECK (pg_catalog.jsonb_typeof(metrics) = 'object'),
	trained_at timestamptz,
	deployed_at timestamptz,
	created_by uuid,
	metadata jsonb NOT NULL DEFAULT '{}' CHECK (pg_catalog.jsonb_typeof(metadata) = 'object'),
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	UNIQUE (name, version)
);
CREATE UNIQUE INDEX ai_models_one_deployed_idx ON core.ai_models (name) WHERE status = 'deployed';
CREATE INDEX ai_models_type_status_idx ON core.ai_models (model_type, status);
CREATE INDEX ai_models_created_by_idx ON core.ai_models (created_by) WHERE created_by IS NOT NULL;
COMMENT ON TABLE core.ai_models IS 'Versions of the models that drones and analysts use; one version of a model is deployed at a time';
COMMENT ON COLUMN core.ai_models.model_id IS 'Identifies the version of the model';
COMMENT ON COLUMN core.ai_models.name IS 'Name of the model';
COMMENT ON COLUMN core.ai_models.version IS 'Version, unique for the name';
COMMENT ON COLUMN core.ai_models.model_type IS 'What it does, such as detection, classification or path_planning';
COMMENT ON COLUMN core.ai_models.framework IS 'Software that runs it';
COMMENT ON COLUMN core.ai_models.description IS 'What it is for';
COMMENT ON COLUMN core.ai_models.status IS 'draft, training, validated, deployed or retired';
COMMENT ON COLUMN core.ai_models.artifact_uri IS 'Where its file is';
COMMENT ON COLUMN core.ai_models.artifact_sha256 IS 'SHA-256 of its file, 32 bytes';
COMMENT ON COLUMN core.ai_models.parameters IS 'Settings to run it with, an object';
COMMENT ON COLUMN core.ai_models.metrics IS 'Figures of its validation, an object';
COMMENT ON COLUMN core.ai_models.trained_at IS 'Time when its training ended';
COMMENT ON COLUMN core.ai_models.deployed_at IS 'Time of its deployment';
COMMENT ON COLUMN core.ai_models.created_by IS 'User who registered it';
COMMENT ON COLUMN core.ai_models.metadata IS 'Whatever else is known, an object';
COMMENT ON COLUMN core.ai_models.created_at IS 'Time of the row''s insertion';
COMMENT ON COLUMN core.ai_models.updated_at IS 'Time of the row''s last change';

/*
 * Sealed columns.  A value belongs to its row, whoever writes it and however.
 */
CREATE TRIGGER require_context BEFORE INSERT OR UPDATE OF drone_id, serial_number ON core.drones
	FOR EACH ROW EXECUTE FUNCTION sentient_edge.require_context('serial_number', 'drone_id');
CREATE TRIGGER require_context BEFORE INSERT OR UPDATE OF channel_id, credentials ON core.communication_channels
	FOR EACH ROW EXECUTE FUNCTION sentient_edge.require_context('credentials', 'channel_id');
CREATE TRIGGER require_context BEFORE INSERT OR UPDATE OF message_id, body_sealed ON core.messages
	FOR EACH ROW EXECUTE FUNCTION sentient_edge.require_context('body_sealed', 'message_id');

CREATE FUNCTION core.find_drone_by_serial_number(serial_number text) RETURNS uuid
LANGUAGE sql STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT d.drone_id FROM core.drones d
	 WHERE d.serial_number = ANY (sentient_edge.search_tokens($1, 'core.drones.serial_number'))
$$;
COMMENT ON FUNCTION core.find_drone_by_serial_number(text) IS
'The drone with exactly this serial number, or NULL; by an index, and also while the search key is being changed. Error: 55000 without a key. May be called by sentient_operator.';

-- The unique index knows tags of one key; while the search key is being changed,
-- a number may still be there under the one before.
CREATE FUNCTION core.set_drone_serial_number(drone_id uuid, serial_number text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF core.find_drone_by_serial_number(serial_number) <> drone_id THEN
		RAISE EXCEPTION 'another drone has this serial number' USING ERRCODE = 'unique_violation';
	END IF;
	UPDATE core.drones d
	   SET serial_number = sentient_edge.seal($2, 'core.drones.serial_number:' || $1, true)
	 WHERE d.drone_id = $1;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'drone "%" does not exist', drone_id USING ERRCODE = 'no_data_found';
	END IF;
END
$$;
COMMENT ON FUNCTION core.set_drone_serial_number(uuid, text) IS
'Seals a drone''s serial number, searchable and unique in the fleet; NULL removes it. Errors: 23505 another drone has it, P0002 unknown drone, 55000 without a key. May be called by sentient_operator.';

CREATE FUNCTION core.drone_serial_number(drone_id uuid) RETURNS text
LANGUAGE sql STABLE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT sentient_edge.unseal(d.serial_number, 'core.drones.serial_number:' || d.drone_id)
	  FROM core.drones d WHERE d.drone_id = $1
$$;
COMMENT ON FUNCTION core.drone_serial_number(uuid) IS
'A drone''s serial number in clear; NULL when it has none. A security event. Errors: SE002 when the value is not that of this drone or was changed, 55000 without a key. May be called by sentient_operator.';

CREATE FUNCTION core.set_channel_credentials(channel_id uuid, credentials text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE core.communication_channels c
	   SET credentials = sentient_edge.seal($2, 'core.communication_channels.credentials:' || $1)
	 WHERE c.channel_id = $1;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'channel "%" does not exist', channel_id USING ERRCODE = 'no_data_found';
	END IF;
END
$$;
COMMENT ON FUNCTION core.set_channel_credentials(uuid, text) IS
'Seals the secret of a channel; NULL removes it. Errors: P0002 unknown channel, 55000 without a key. May be called by sentient_operator.';

CREATE FUNCTION core.channel_credentials(channel_id uuid) RETURNS text
LANGUAGE sql STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT sentient_edge.unseal(c.credentials, 'core.communication_channels.credentials:' || c.channel_id)
	  FROM core.communication_channels c WHERE c.channel_id = $1
$$;
COMMENT ON FUNCTION core.channel_credentials(uuid) IS
'The secret of a channel in clear; NULL when it has none. A security event. Errors: SE002 when the value is not that of this channel or was changed, 55000 without a key. May be called by sentient_admin.';

CREATE FUNCTION core.send_message(body text, confidential boolean DEFAULT false, subject text DEFAULT NULL,
	message_type text DEFAULT 'text', priority integer DEFAULT 5, channel_id uuid DEFAULT NULL, mission_id uuid DEFAULT NULL,
	sender_user_id uuid DEFAULT NULL, sender_drone_id uuid DEFAULT NULL, recipient_user_id uuid DEFAULT NULL,
	recipient_drone_id uuid DEFAULT NULL, recipient_swarm_id uuid DEFAULT NULL, reply_to uuid DEFAULT NULL,
	metadata jsonb DEFAULT '{}') RETURNS uuid
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO core.messages (message_id, body, body_sealed, confidential, subject, message_type, priority, channel_id,
		mission_id, sender_user_id, sender_drone_id, recipient_user_id, recipient_drone_id, recipient_swarm_id, reply_to, metadata)
	SELECT m.id, CASE WHEN NOT $2 THEN $1 END, CASE WHEN $2 THEN sentient_edge.seal($1, 'core.messages.body_sealed:' || m.id) END,
		   $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14
	  FROM (SELECT gen_random_uuid() AS id) AS m
	RETURNING message_id
$$;
COMMENT ON FUNCTION core.send_message(text, boolean, text, text, integer, uuid, uuid, uuid, uuid, uuid, uuid, uuid, uuid, jsonb) IS
'Stores a message and returns its id; the text of a confidential one is sealed. Errors: 23514 without a text, 23503 for an unknown sender, recipient, mission or channel, 55000 for a confidential one without a key. May be called by sentient_operator.';

CREATE FUNCTION core.seal_message(message_id uuid) RETURNS boolean
LANGUAGE plpgsql STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE core.messages m
	   SET confidential = true, body = NULL,
		   body_sealed = sentient_edge.seal(m.body, 'core.messages.body_sealed:' || m.message_id)
	 WHERE m.message_id = $1 AND NOT m.confidential;
	RETURN FOUND;
END
$$;
COMMENT ON FUNCTION core.seal_message(uuid) IS
'Makes a message confidential afterwards and seals its text; false when there is no such open message. What was stored before stays in old row versions until VACUUM, in WAL and in backups. Error: 55000 without a key. May be called by sentient_operator.';

CREATE FUNCTION core.message_body(message_id uuid) RETURNS text
LANGUAGE sql STABLE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN m.confidential THEN sentient_edge.unseal(m.body_sealed, 'core.messages.body_sealed:' || m.message_id) ELSE m.body END
	  FROM core.messages m WHERE m.message_id = $1
$$;
COMMENT ON FUNCTION core.message_body(uuid) IS
'The text of a message in clear, confidential or not; NULL when there is no such message. Of a confidential one, a security event. Errors: SE002 when the value is not that of this message or was changed, 55000 without a key. May be called by sentient_operator.';

GRANT EXECUTE ON FUNCTION core.set_drone_serial_number(uuid, text), core.drone_serial_number(uuid),
	core.find_drone_by_serial_number(text), core.set_channel_credentials(uuid, text),
	core.send_message(text, boolean, text, text, integer, uuid, uuid, uuid, uuid, uuid, uuid, uuid, uuid, jsonb),
	core.seal_message(uuid), core.message_body(uuid) TO sentient_operator;
GRANT EXECUTE ON FUNCTION core.channel_credentials(uuid) TO sentient_admin;
-- A check of core.drones asks it.
GRANT EXECUTE ON FUNCTION sentient_edge.sealed_search_key_id(sentient_edge.sealed) TO sentient_operator;

CREATE TRIGGER touch_updated_at BEFORE UPDATE ON core.swarms FOR EACH ROW EXECUTE FUNCTION core.touch_updated_at();
CREATE TRIGGER touch_updated_at BEFORE UPDATE ON core.drones FOR EACH ROW EXECUTE FUNCTION core.touch_updated_at();
CREATE TRIGGER touch_updated_at BEFORE UPDATE ON core.swarm_members FOR EACH ROW EXECUTE FUNCTION core.touch_updated_at();
CREATE TRIGGER touch_updated_at BEFORE UPDATE ON core.missions FOR EACH ROW EXECUTE FUNCTION core.touch_updated_at();
CREATE TRIGGER touch_updated_at BEFORE UPDATE ON core.mission_drones FOR EACH ROW EXECUTE FUNCTION core.touch_updated_at();
CREATE TRIGGER touch_updated_at BEFORE UPDATE ON core.communication_channels FOR EACH ROW EXECUTE FUNCTION core.touch_updated_at();
CREATE TRIGGER touch_updated_at BEFORE UPDATE ON core.messages FOR EACH ROW EXECUTE FUNCTION core.touch_updated_at();
CREATE TRIGGER touch_updated_at BEFORE UPDATE ON core.ai_models FOR EACH ROW EXECUTE FUNCTION core.touch_updated_at();

SELECT pg_catalog.pg_extension_config_dump('core.drone_statuses', '');
SELECT pg_catalog.pg_extension_config_dump('core.drone_status_transitions', '');
SELECT pg_catalog.pg_extension_config_dump('core.swarms', '');
SELECT pg_catalog.pg_extension_config_dump('core.drones', '');
SELECT pg_catalog.pg_extension_config_dump('core.drone_status_history', '');
SELECT pg_catalog.pg_extension_config_dump('core.swarm_members', '');
SELECT pg_catalog.pg_extension_config_dump('core.missions', '');
SELECT pg_catalog.pg_extension_config_dump('core.mission_drones', '');
SELECT pg_catalog.pg_extension_config_dump('core.communication_channels', '');
SELECT pg_catalog.pg_extension_config_dump('core.messages', '');
SELECT pg_catalog.pg_extension_config_dump('core.ai_models', '');

/*
 * Rights.  Every column of a channel but its credentials may be read; a new
 * column must be added to this list on purpose.
 */
GRANT SELECT ON core.drone_statuses, core.drone_status_transitions, core.swarms, core.drones,
	core.drone_status_history, core.swarm_members, core.missions, core.mission_drones, core.messages,
	core.ai_models TO sentient_viewer;
GRANT SELECT (channel_id, name, channel_type, status, endpoint, frequency_mhz, bandwidth_kbps, priority,
	metadata, created_at, updated_at) ON core.communication_channels TO sentient_viewer;
GRANT INSERT, UPDATE, DELETE ON core.swarms, core.drones, core.swarm_members, core.missions,
	core.mission_drones, core.communication_channels, core.messages, core.ai_models TO sentient_operator;
GRANT SELECT ON core.communication_channels TO sentient_admin;
GRANT INSERT, UPDATE, DELETE ON core.drone_statuses, core.drone_status_transitions TO sentient_admin;
