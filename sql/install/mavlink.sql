--
-- MAVLink: frames and logs of drones and ground stations into samples.
--

CREATE TABLE telemetry.link_statistics (
    drone_id         uuid        PRIMARY KEY REFERENCES core.drones (drone_id),
    frames_received  bigint      NOT NULL DEFAULT 0 CHECK (frames_received >= 0),
    frames_bad_crc   bigint      NOT NULL DEFAULT 0 CHECK (frames_bad_crc >= 0),
    frames_unknown   bigint      NOT NULL DEFAULT 0 CHECK (frames_unknown >= 0),
    bytes_skipped    bigint      NOT NULL DEFAULT 0 CHECK (bytes_skipped >= 0),
    bytes_truncated  bigint      NOT NULL DEFAULT 0 CHECK (bytes_truncated >= 0),
    last_frame_at    timestamptz,
    updated_at       timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
COMMENT ON TABLE telemetry.link_statistics IS
  'Quality of each drone''s MAVLink link: sums over all bytes ever sent to telemetry.ingest_mavlink and telemetry.import_tlog, repetitions included';
COMMENT ON COLUMN telemetry.link_statistics.drone_id IS 'The drone whose frames these were';
COMMENT ON COLUMN telemetry.link_statistics.frames_received IS 'Frames of known messages with a right CRC, whichever system sent them';
COMMENT ON COLUMN telemetry.link_statistics.frames_bad_crc IS 'Frames of known messages whose CRC was wrong';
COMMENT ON COLUMN telemetry.link_statistics.frames_unknown IS 'Frames of messages in neither the common nor the ardupilotmega dialect, or with unknown flags; they cannot be checked';
COMMENT ON COLUMN telemetry.link_statistics.bytes_skipped IS 'Bytes in no frame, or in one with a wrong CRC';
COMMENT ON COLUMN telemetry.link_statistics.bytes_truncated IS 'Bytes of frames that were cut off at the end of what was sent';
COMMENT ON COLUMN telemetry.link_statistics.last_frame_at IS 'Newest time told by the frames; NULL while none told one';
COMMENT ON COLUMN telemetry.link_statistics.updated_at IS 'When bytes were last added';
SELECT pg_catalog.pg_extension_config_dump('telemetry.link_statistics', '');

CREATE FUNCTION telemetry.ingest_mavlink(drone_id uuid, frames bytea, boot_epoch timestamptz DEFAULT NULL,
    OUT accepted integer, OUT duplicate integer, OUT rejected integer)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'telemetry_ingest_mavlink';
COMMENT ON FUNCTION telemetry.ingest_mavlink(uuid, bytea, timestamptz) IS
'Stores what MAVLink 1 and 2 frames of one drone tell, in the caller''s transaction.
Each GLOBAL_POSITION_INT of the drone''s autopilot makes a sample, completed by the newest HEARTBEAT, SYS_STATUS, GPS_RAW_INT, ATTITUDE, VFR_HUD, BATTERY_STATUS, EXTENDED_SYS_STATE, RADIO_STATUS and SCALED_PRESSURE of this call that are not older than the setting telemetry.mavlink_state_age; what a message declares unknown is NULL. STATUSTEXT goes to telemetry.drone_events, the counts of good, bad and unknown frames to telemetry.link_statistics. Garbage between frames is skipped; signatures are not verified.
Keys in extra: airspeed_ms, climb_ms, throttle_percentage, pressure_hpa, gps_hdop, battery_current_a, battery_temperature_c, radio_rssi and radio_remote_rssi (the radio''s own units), armed, landed_state, vtol_state.
boot_epoch is the time (UTC) at which the vehicle booted; recorded_at is that plus the vehicle''s time since boot. Without it the first SYSTEM_TIME with a plausible time in each boot gives it; with neither, samples are rejected (23502). Pass it when the same frames may come in differently cut pieces: then a frame''s time is always the same. A reboot within the frames ends its validity.
Returns how many samples were accepted, were duplicates, and were rejected; samples of an unknown drone are rejected (its texts and counts are not kept).
Errors: 22004 drone_id or frames is null; 22008 boot_epoch is infinite. May be called by sentient_operator and above.';

CREATE FUNCTION telemetry.import_tlog(drone_id uuid, log bytea,
    OUT accepted integer, OUT duplicate integer, OUT rejected integer)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'telemetry_import_tlog';
COMMENT ON FUNCTION telemetry.import_tlog(uuid, bytea) IS
'Stores a ground station''s telemetry log (.tlog: each frame behind eight bytes, the station''s clock in microseconds since 1970, most significant byte first) as telemetry.ingest_mavlink does.
recorded_at is the vehicle''s time since boot, mapped to UTC by the vehicle''s SYSTEM_TIME, which is steadier than the stamps; a log without one is mapped by its stamps. The same log imported again gives the same times: all samples are duplicates then, and no status text is doubled.
Errors: 22004 drone_id or log is null. May be called by sentient_operator and above.';

CREATE FUNCTION telemetry.mavlink_report(bytes bytea, is_tlog boolean DEFAULT false)
    RETURNS TABLE (message_id integer, message_name text, frames bigint, first_at timestamptz, last_at timestamptz)
    LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'telemetry_mavlink_report';
COMMENT ON FUNCTION telemetry.mavlink_report(bytea, boolean) IS
'Looks into MAVLink frames, or into a telemetry log, without storing anything: one row a message with the number of its good frames and, of a log, the first and the last stamp; then, with message_id NULL, rows for unknown frames, bad CRC, skipped bytes and truncated bytes, with their numbers in the column frames.
Errors: 22004 an argument is null. May be called by sentient_viewer and above.';

REVOKE ALL ON telemetry.link_statistics FROM PUBLIC;
GRANT SELECT ON telemetry.link_statistics TO sentient_viewer;
GRANT DELETE ON telemetry.link_statistics TO sentient_admin;
REVOKE ALL ON FUNCTION telemetry.ingest_mavlink(uuid, bytea, timestamptz), telemetry.import_tlog(uuid, bytea),
    telemetry.mavlink_report(bytea, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION telemetry.ingest_mavlink(uuid, bytea, timestamptz), telemetry.import_tlog(uuid, bytea)
    TO sentient_operator;
GRANT EXECUTE ON FUNCTION telemetry.mavlink_report(bytea, boolean) TO sentient_viewer;
