--
-- MAVLink frames and logs: telemetry.ingest_mavlink, import_tlog, mavlink_report
--
-- Frames are built here, with a CRC of their own, and not by the code under test.
--
SET TIME ZONE 'UTC';
SET DateStyle = ISO;
CREATE SCHEMA mavlink_test;
SET search_path = mavlink_test, pg_catalog;

-- an integer in little-endian bytes
CREATE FUNCTION le(value bigint, size integer) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT string_agg(set_byte('\x00', 0, (value >> 8 * i & 255)::integer), '' ORDER BY i)
    FROM generate_series(0, size - 1) i $$;
CREATE FUNCTION f32(value real) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT string_agg(substr(float4send(value), i, 1), '' ORDER BY i DESC) FROM generate_series(1, 4) i $$;
CREATE FUNCTION crc(bytes bytea) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    value integer := 65535;
BEGIN
    FOR i IN 0 .. length(bytes) - 1 LOOP
        value := value # get_byte(bytes, i);
        FOR bit IN 1 .. 8 LOOP
            value := CASE WHEN value & 1 = 1 THEN value >> 1 # 33800 ELSE value >> 1 END;
        END LOOP;
    END LOOP;
    RETURN le(value, 2);
END $$;
-- the published check value of CRC-16/MCRF4XX
SELECT crc('123456789');

CREATE TABLE extras (message integer PRIMARY KEY, extra integer);
INSERT INTO extras VALUES (0, 50), (1, 124), (2, 137), (24, 24), (29, 115), (30, 39), (33, 104), (74, 20), (109, 185),
    (147, 154), (245, 130), (253, 83);

CREATE FUNCTION v1(message integer, payload bytea, system integer DEFAULT 1, component integer DEFAULT 1)
RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT '\xfe' || body || crc(body || le((SELECT extra FROM extras e WHERE e.message = v1.message), 1))
    FROM (SELECT le(length(payload), 1) || '\x00' || le(system, 1) || le(component, 1) || le(message, 1) || payload)
        AS b (body) $$;
-- trailing zeros are cut off, as senders of MAVLink 2 do
CREATE FUNCTION v2(message integer, payload bytea, flags integer DEFAULT 0, system integer DEFAULT 1)
RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT '\xfd' || body || crc(body || le((SELECT extra FROM extras e WHERE e.message = v2.message), 1))
        || CASE WHEN flags & 1 = 1 THEN '\x01020304050607080910111213'::bytea ELSE '' END
    FROM (SELECT le(length(cut), 1) || le(flags, 1) || '\x0000' || le(system, 1) || '\x01' || le(message, 3) || cut
          FROM (SELECT substr(payload, 1, 1) || rtrim(substr(payload, 2), '\x00')) AS c (cut)) AS b (body) $$;

CREATE FUNCTION heartbeat(mode bigint, type integer DEFAULT 2, autopilot integer DEFAULT 3, base_mode integer DEFAULT 209)
RETURNS bytea LANGUAGE sql AS $$
    SELECT le(mode, 4) || le(type, 1) || le(autopilot, 1) || le(base_mode, 1) || '\x0403' $$;
CREATE FUNCTION place(boot_ms bigint, latitude float8 DEFAULT 47.3977418, longitude float8 DEFAULT 8.5455938,
    vx integer DEFAULT 300, vy integer DEFAULT -400, vz integer DEFAULT 150, heading integer DEFAULT 9000)
RETURNS bytea LANGUAGE sql AS $$
    SELECT le(boot_ms, 4) || le((latitude * 1e7)::bigint, 4) || le((longitude * 1e7)::bigint, 4) || le(488123, 4)
        || le(-12500, 4) || le(vx, 2) || le(vy, 2) || le(vz, 2) || le(heading, 2) $$;
CREATE FUNCTION sys_status(millivolts integer, centiamperes integer, percentage integer) RETURNS bytea LANGUAGE sql AS $$
    SELECT le(0, 14) || le(millivolts, 2) || le(centiamperes, 2) || le(0, 12) || le(percentage, 1) $$;
CREATE FUNCTION system_time(unix_us bigint, boot_ms bigint) RETURNS bytea LANGUAGE sql AS $$
    SELECT le(unix_us, 8) || le(boot_ms, 4) $$;
CREATE FUNCTION statustext(severity integer, message bytea, id integer DEFAULT NULL, chunk integer DEFAULT 0)
RETURNS bytea LANGUAGE sql AS $$
    SELECT le(severity, 1) || substr(message || le(0, 50), 1, 50)
        || CASE WHEN id IS NULL THEN '' ELSE le(id, 2) || le(chunk, 1) END $$;
CREATE FUNCTION stamped(at timestamptz, frame bytea) RETURNS bytea LANGUAGE sql AS $$
    SELECT int8send((extract(epoch FROM at) * 1000000)::bigint) || frame $$;

INSERT INTO core.drones (drone_id, call_sign, drone_type)
SELECT ('a0000000-0000-0000-0000-' || lpad(i::text, 12, '0'))::uuid, 'mavlink-' || i, 'quadcopter'
FROM generate_series(1, 40) i;
CREATE FUNCTION drone(i integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT ('a0000000-0000-0000-0000-' || lpad(i::text, 12, '0'))::uuid $$;
CREATE VIEW samples AS
    SELECT split_part(drone_id::text, '-', 5)::integer AS drone, t.* FROM telemetry.drone_telemetry t
    WHERE drone_id BETWEEN drone(1) AND drone(99);
CREATE VIEW events AS
    SELECT split_part(drone_id::text, '-', 5)::integer AS drone, e.* FROM telemetry.drone_events e
    WHERE drone_id BETWEEN drone(1) AND drone(99);
CREATE VIEW rejected AS
    SELECT split_part(drone_id::text, '-', 5)::integer AS drone, r.* FROM telemetry.rejected_samples r
    WHERE drone_id BETWEEN drone(1) AND drone(99);

--
-- Every decoded message makes its part of a sample
--
SELECT v1(0, heartbeat(5)) || v1(245, '\x0302')
    || v1(1, sys_status(12600, 1550, 87))
    || v1(24, le(1, 8) || le(0, 12) || le(121, 2) || le(200, 2) || le(500, 2) || le(9000, 2) || '\x030c')
    || v1(30, le(1000, 4) || f32(0.5) || f32(-0.25) || f32(1) || le(0, 12))
    || v1(74, f32(5.5) || f32(5.1) || f32(490) || f32(1.25) || le(91, 2) || le(42, 2))
    || v1(29, le(1000, 4) || f32(1013.25) || f32(0) || le(2150, 2))
    || v1(109, le(0, 4) || '\xb4a0641e1e', 51, 68)
    || v1(33, place(2000)) AS flight \gset
SELECT * FROM telemetry.ingest_mavlink(drone(1), :'flight', '2024-05-01 00:00:00+00');
\x on
SELECT recorded_at, latitude, longitude, altitude_m, relative_altitude_m, battery_percentage, battery_voltage_v,
    ground_speed_ms, vertical_speed_ms, heading_deg, roll_deg, pitch_deg, temperature_c, signal_strength_dbm,
    gps_satellites, gps_fix, flight_mode, extra FROM samples WHERE drone = 1;
\x off
-- sent again: a duplicate; the latest state is there
SELECT * FROM telemetry.ingest_mavlink(drone(1), :'flight', '2024-05-01 00:00:00+00');
SELECT recorded_at, flight_mode FROM telemetry.drone_latest WHERE drone_id = drone(1);
SELECT frames_received, frames_bad_crc, frames_unknown, bytes_skipped, bytes_truncated, last_frame_at
FROM telemetry.link_statistics WHERE drone_id = drone(1);

--
-- MAVLink 2: cut payloads, signatures, unknown flags
--
SELECT length(v2(33, place(1000, vx => 0, vy => 0, vz => 0, heading => 0))) AS cut_length;
SELECT * FROM telemetry.ingest_mavlink(drone(2),
    v2(0, heartbeat(4)) || v2(33, place(1000, vx => 0, vy => 0, vz => 0, heading => 0))
    || v2(33, place(2000), 1) || v2(33, place(3000), 2) || v2(33, place(4000)), '2024-05-01 00:00:00+00');
SELECT recorded_at, ground_speed_ms, vertical_speed_ms, heading_deg, flight_mode FROM samples WHERE drone = 2 ORDER BY 1;
SELECT frames_received, frames_bad_crc, frames_unknown, bytes_skipped FROM telemetry.link_statistics
WHERE drone_id = drone(2);
-- BATTERY_STATUS: cells are summed, extension cells too; preferred to SYS_STATUS
SELECT * FROM telemetry.ingest_mavlink(drone(3),
    v1(1, sys_status(11000, 100, 50))
    || v2(147, le(-1, 4) || le(-1, 4) || le(2500, 2) || le(4100, 2) || le(4050, 2) || le(65535, 2) || le(65535, 2)
        || le(-1, 12) || le(-1, 2) || le(0, 3) || le(77, 1))
    || v2(33, place(1000))
    || v2(147, le(-1, 4) || le(-1, 4) || le(32767, 2) || le(4100, 2) || le(4100, 2) || le(4100, 2) || le(4100, 2)
        || le(4100, 2) || le(4100, 2) || le(4100, 2) || le(4100, 2) || le(4100, 2) || le(4100, 2) || le(200, 2)
        || le(0, 3) || le(-1, 1) || le(0, 5) || le(4000, 2) || le(4000, 2))
    || v2(33, place(2000)), '2024-05-01 00:00:00+00');
SELECT battery_percentage, battery_voltage_v, extra FROM samples WHERE drone = 3 ORDER BY recorded_at;

--
-- Sentinels and nonsense are unknown, never 0
--
SELECT * FROM telemetry.ingest_mavlink(drone(4),
    v1(1, sys_status(65535, -1, -1))
    || v1(24, le(1, 8) || le(0, 12) || le(65535, 2) || le(65535, 2) || le(65535, 2) || le(65535, 2) || '\x03ff')
    || v1(30, le(1000, 4) || f32('NaN') || f32('Infinity') || f32(1) || le(0, 12))
    || v1(74, f32('NaN') || f32('NaN') || f32('NaN') || f32('NaN') || le(-1, 2) || le(65535, 2))
    || v1(29, le(1000, 4) || f32('NaN') || f32(0) || le(32767, 2))
    || v1(109, le(0, 4) || '\xffff641e1e', 51, 68)
    || v2(147, le(-1, 4) || le(-1, 4) || le(32767, 2) || le(-1, 20) || le(-1, 2) || le(0, 3) || le(-1, 1))
    || v1(33, place(1000, heading => 65535)), '2024-05-01 00:00:00+00');
SELECT battery_percentage, battery_voltage_v, heading_deg, roll_deg, pitch_deg, temperature_c, signal_strength_dbm,
    gps_satellites, gps_fix, flight_mode, extra FROM samples WHERE drone = 4;
-- an autopilot without a battery monitor reports 0 mV; without a fix, position 0, 0
SELECT * FROM telemetry.ingest_mavlink(drone(5),
    v1(1, sys_status(0, -1, -1)) || v1(24, le(1, 8) || le(0, 12) || le(65535, 8) || '\x0100')
    || v1(33, place(1000, 0, 0)), '2024-05-01 00:00:00+00');
SELECT latitude, longitude, altitude_m, battery_voltage_v, gps_satellites, gps_fix FROM samples WHERE drone = 5;
-- angles are brought into their ranges: 36000 cdeg is north; the compass of VFR_HUD stands in for an unknown heading
SELECT * FROM telemetry.ingest_mavlink(drone(6),
    v1(30, le(1000, 4) || f32(3.5) || f32(-7) || f32(1) || le(0, 12)) || v1(33, place(1000, heading => 36000))
    || v1(74, f32(5.5) || f32(5.1) || f32(490) || f32(1.25) || le(359, 2) || le(42, 2))
    || v1(33, place(1100, heading => 65535)), '2024-05-01 00:00:00+00');
SELECT heading_deg, round(roll_deg::numeric, 2) AS roll_deg, round(pitch_deg::numeric, 2) AS pitch_deg
FROM samples WHERE drone = 6 ORDER BY recorded_at;

--
-- State: its age, whose it is, flight modes
--
SELECT * FROM telemetry.ingest_mavlink(drone(7),
    v1(0, heartbeat(6)) || v1(1, sys_status(12000, 0, 60)) || v1(33, place(1000)) || v1(33, place(6000))
    || v1(33, place(6001)) || v1(1, sys_status(11900, 0, 59)) || v1(33, place(6100)), '2024-05-01 00:00:00+00');
SELECT recorded_at, flight_mode, battery_percentage FROM samples WHERE drone = 7 ORDER BY 1;
-- a ground station, a gimbal and another vehicle do not speak for this one
SELECT * FROM telemetry.ingest_mavlink(drone(8),
    v1(0, heartbeat(0, 6, 8), 255, 190) || v1(33, place(500), 255, 190) || v1(0, heartbeat(3))
    || v1(0, heartbeat(7, 26, 8), 1, 154) || v1(0, heartbeat(9), 2) || v1(1, sys_status(9000, 0, 5), 2)
    || v1(33, place(900), 2) || v1(33, place(1000)), '2024-05-01 00:00:00+00');
SELECT recorded_at, flight_mode, battery_percentage FROM samples WHERE drone = 8 ORDER BY 1;
CREATE TABLE modes (boot_ms integer, mode bigint, type integer, autopilot integer, base_mode integer);
INSERT INTO modes VALUES
    (1, 16, 2, 3, 81), (2, 5, 1, 3, 81), (3, 18, 20, 3, 81), (4, 10, 10, 3, 81), (5, 19, 12, 3, 81), (6, 99, 2, 3, 81),
    (7, (4 << 16) | (4 << 24), 2, 12, 81), (8, (4 << 16) | (5 << 24), 2, 12, 81), (9, 3 << 16, 2, 12, 81),
    (10, 6 << 16, 2, 12, 81),
    (11, 0, 2, 0, 4), (12, 0, 2, 0, 64);
SELECT * FROM telemetry.ingest_mavlink(drone(9),
    (SELECT string_agg(v1(0, heartbeat(mode, type, autopilot, base_mode)) || v1(33, place(boot_ms)), '' ORDER BY boot_ms)
     FROM modes), '2024-05-01 00:00:00+00');
SELECT string_agg(flight_mode, ' ' ORDER BY recorded_at) FROM samples WHERE drone = 9;

--
-- Time: boot_epoch, SYSTEM_TIME (also behind the first position), stamps, none; reboot and wrap
--
SELECT v1(33, place(1000)) || v1(2, system_time(0, 1100)) || v1(2, system_time(1714521600000000 + 1200000, 1200))
    || v1(33, place(1300)) AS clocked \gset
SELECT * FROM telemetry.ingest_mavlink(drone(10), :'clocked');
SELECT recorded_at FROM samples WHERE drone = 10 ORDER BY 1;
SELECT * FROM telemetry.ingest_mavlink(drone(11), :'clocked', '2024-05-02 00:00:00+00');
SELECT recorded_at FROM samples WHERE drone = 11 ORDER BY 1;
SELECT * FROM telemetry.ingest_mavlink(drone(12), v1(33, place(1000)) || v1(253, statustext(6, 'when?')));
SELECT sqlstate, reason, payload ->> 'latitude' AS latitude FROM rejected WHERE drone = 12;
-- the vehicle boots anew: what was known is forgotten, and boot_epoch no longer holds
SELECT * FROM telemetry.ingest_mavlink(drone(13),
    v1(0, heartbeat(5)) || v1(33, place(600000)) || v1(33, place(3000)) || v1(2, system_time(1714608000000000, 3100))
    || v1(33, place(3200)), '2024-05-01 00:00:00+00');
SELECT recorded_at, flight_mode FROM samples WHERE drone = 13 ORDER BY 1;
SELECT * FROM telemetry.ingest_mavlink(drone(14), v1(33, place(600000)) || v1(33, place(3000)), '2024-05-01 00:00:00+00');
-- the 32-bit count of milliseconds wraps; a late frame is no reboot
SELECT * FROM telemetry.ingest_mavlink(drone(15),
    v1(33, place(4294967000)) || v1(33, place(704)) || v1(33, place(4294967200)) || v1(33, place(1704)),
    '2024-05-01 00:00:00+00');
SELECT recorded_at FROM samples WHERE drone = 15 ORDER BY 1;
-- outside the accepted window
SELECT * FROM telemetry.ingest_mavlink(drone(16), v1(33, place(1000)), '1999-01-01 00:00:00+00');
SELECT * FROM telemetry.ingest_mavlink(drone(16), v1(33, place(1000)), '30000-01-01 00:00:00+00');
SELECT sqlstate, reason FROM rejected WHERE drone = 16 ORDER BY rejection_id;
-- logs: SYSTEM_TIME is preferred to the stamps; stamps alone map the boot once, not each frame
SELECT * FROM telemetry.import_tlog(drone(17),
    stamped('2024-05-03 00:00:10+00', v1(33, place(1000)))
    || stamped('2024-05-03 00:00:11+00', v1(2, system_time(1714521600000000, 2000))));
SELECT recorded_at FROM samples WHERE drone = 17;
SELECT stamped('2024-05-03 00:00:10+00', v1(33, place(1000))) || stamped('2024-05-03 00:00:10.25+00', v1(33, place(1200)))
    || stamped('2024-05-03 00:00:10.25+00', v1(33, place(1400))) AS late \gset
SELECT * FROM telemetry.import_tlog(drone(18), :'late');
SELECT * FROM telemetry.import_tlog(drone(18), :'late');
SELECT recorded_at FROM samples WHERE drone = 18 ORDER BY 1;

--
-- Status texts
--
SELECT v1(253, statustext(2, 'Battery failsafe'))
    || v2(253, statustext(4, repeat('a', 50)::bytea, 7, 0)) || v2(253, statustext(4, repeat('b', 50)::bytea, 7, 1))
    || v2(253, statustext(4, 'the end', 7, 2))
    || v2(253, statustext(5, repeat('c', 50)::bytea, 8, 0)) || v2(253, statustext(5, 'after a gap', 8, 2))
    || v2(253, statustext(3, repeat('d', 50)::bytea, 9, 0))
    || v1(253, statustext(9, '\x4772c3bcc39f6520ff0a21')) || v1(253, statustext(1, 'alert from elsewhere'), 2)
    || v1(253, statustext(0, '')) || v1(33, place(1000)) AS texts \gset
SELECT * FROM telemetry.ingest_mavlink(drone(19), :'texts', '2024-05-01 00:00:00+00');
SELECT * FROM telemetry.ingest_mavlink(drone(19), :'texts', '2024-05-01 00:00:00+00');
SELECT occurred_at, event_type, severity, source, payload, message FROM events WHERE drone = 19 ORDER BY severity, message;

--
-- Damage: garbage, bad CRC, truncation, hostile lengths
--
SELECT * FROM telemetry.ingest_mavlink(drone(20),
    '\xfefdfe0000' || v1(33, place(1000)) || '\x0102fdff' || overlay(v1(33, place(1100)) PLACING '\x55' FROM 20)
    || v2(33, place(1200)) || v1(33, place(1300)) || substr(v1(33, place(1400)), 1, 20), '2024-05-01 00:00:00+00');
SELECT recorded_at FROM samples WHERE drone = 20 ORDER BY 1;
SELECT frames_received, frames_bad_crc, frames_unknown, bytes_skipped, bytes_truncated FROM telemetry.link_statistics
WHERE drone_id = drone(20);
-- every prefix of a flight, and a flight with every byte broken in turn
SET client_min_messages = error;
SELECT sum(accepted) AS accepted, sum(duplicate) AS duplicate, sum(rejected) AS rejected
FROM generate_series(0, length(:'flight'::bytea)) i,
    telemetry.ingest_mavlink(drone(21), substr(:'flight'::bytea, 1, i), '2024-05-01 00:00:00+00');
SELECT sum(accepted) AS accepted, sum(duplicate) AS duplicate, sum(rejected) AS rejected
FROM generate_series(0, length(:'flight'::bytea) - 1) i,
    telemetry.ingest_mavlink(drone(22), set_byte(:'flight', i, get_byte(:'flight', i) # 255), '2024-05-01 00:00:00+00');
RESET client_min_messages;
SELECT recorded_at, latitude FROM samples WHERE drone = 22;
SELECT * FROM telemetry.mavlink_report('');
SELECT * FROM telemetry.mavlink_report('\xfe');
SELECT * FROM telemetry.mavlink_report('\xfdff00000000000000');
SELECT * FROM telemetry.mavlink_report(decode(repeat('fe', 100000), 'hex'));
SELECT * FROM telemetry.mavlink_report(decode(repeat('fdfe', 100000), 'hex'), true);
SELECT * FROM telemetry.ingest_mavlink(drone(23), '\x00');
SELECT * FROM telemetry.import_tlog(drone(23), v1(33, place(1000)));
SELECT * FROM telemetry.ingest_mavlink(drone(23), '');
-- an unknown message ends where a frame begins, else it is garbage
SELECT * FROM telemetry.mavlink_report('\xfd0300000001016000ea616263aaaa' || v1(33, place(1)) || '\xfd0300000001016000ea616263aaaa99'
    || v1(33, place(2)));
-- bytes too many cost no frame; a log that was cut inside a stamp
SELECT * FROM telemetry.mavlink_report(stamped('2024-05-03 00:00:10+00', v1(33, place(1))) || '\x00'
    || stamped('2024-05-03 00:00:11+00', v1(33, place(2))) || stamped('2024-05-03 00:00:12+00', v1(0, heartbeat(5))) || '\x0000', true);

--
-- Samples that cannot be stored
--
SELECT * FROM telemetry.ingest_mavlink(drone(24), v1(0, heartbeat(5)) || v1(33, place(1000, 91.5, 8)) || v1(33, place(1100)),
    '2024-05-01 00:00:00+00');
SELECT sqlstate, reason, payload - 'extra' AS payload FROM rejected WHERE drone = 24;
-- neither the drone's texts nor its counts have a place when it is unknown
SELECT * FROM telemetry.ingest_mavlink(drone(77), :'texts', '2024-05-01 00:00:00+00');
SELECT sqlstate, payload ->> 'recorded_at' AS recorded_at FROM rejected WHERE drone = 77;
SELECT count(*) FROM events WHERE drone = 77;
SELECT count(*) FROM telemetry.link_statistics WHERE drone_id = drone(77);

--
-- Errors
--
CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' / ', SQLSTATE, SQLERRM, nullif(hint, ''));
END $$;
SELECT try('SELECT telemetry.ingest_mavlink(NULL, ''\x00'')');
SELECT try('SELECT telemetry.ingest_mavlink(mavlink_test.drone(1), NULL)');
SELECT try('SELECT telemetry.import_tlog(NULL, ''\x00'')');
SELECT try('SELECT telemetry.import_tlog(mavlink_test.drone(1), NULL)');
SELECT try('SELECT * FROM telemetry.mavlink_report(NULL)');
SELECT try('SELECT * FROM telemetry.mavlink_report('''', NULL)');
SELECT try('SELECT telemetry.ingest_mavlink(mavlink_test.drone(1), ''\x00'', ''infinity'')');
SELECT try('SELECT telemetry.ingest_mavlink(mavlink_test.drone(1), ''\x00'', ''-infinity'')');

--
-- Permissions
--
SELECT r AS role, f AS function, has_function_privilege(r, f, 'EXECUTE') AS may
FROM unnest(ARRAY['sentient_viewer', 'sentient_analyst', 'sentient_operator', 'sentient_app']) r,
    unnest(ARRAY['telemetry.ingest_mavlink(uuid,bytea,timestamptz)', 'telemetry.import_tlog(uuid,bytea)',
                 'telemetry.mavlink_report(bytea,boolean)']) f ORDER BY 2, 1;
-- an operator needs no right on the tables behind
GRANT USAGE ON SCHEMA mavlink_test TO sentient_operator;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA mavlink_test TO sentient_operator;
SET ROLE sentient_operator;
SELECT * FROM telemetry.ingest_mavlink(drone(25), :'texts', '2024-05-01 00:00:00+00');
SELECT try('UPDATE telemetry.link_statistics SET frames_bad_crc = 0');
RESET ROLE;
SELECT count(*) FROM events WHERE drone = 25;

--
-- A real log
--
\getenv abs_srcdir PG_ABS_SRCDIR
\set log_file :abs_srcdir '/data/vtol.tlog'
CREATE TABLE log AS SELECT pg_read_binary_file(:'log_file') AS bytes;
SELECT sum(frames) FROM log, telemetry.mavlink_report(bytes, true) WHERE message_id IS NOT NULL;
SELECT r.* FROM log, telemetry.mavlink_report(bytes, true) r
WHERE message_id IS NULL OR message_id IN (0, 1, 2, 24, 30, 33, 74, 164, 253);
SELECT i.* FROM log, telemetry.import_tlog(drone(30), bytes) i;
SELECT i.* FROM log, telemetry.import_tlog(drone(30), bytes) i;
SELECT count(*), min(recorded_at), max(recorded_at), round(min(altitude_m)::numeric, 2) AS lowest,
    round(max(altitude_m)::numeric, 2) AS highest, count(battery_voltage_v) AS with_voltage,
    string_agg(DISTINCT flight_mode, ' ' ORDER BY flight_mode) AS modes FROM samples WHERE drone = 30;
SELECT frames_received, frames_bad_crc, frames_unknown, bytes_skipped, bytes_truncated, last_frame_at
FROM telemetry.link_statistics WHERE drone_id = drone(30);
SELECT occurred_at, severity, message FROM events WHERE drone = 30 ORDER BY occurred_at, message;
-- damaged: a hole, then garbage
SELECT i.* FROM log, telemetry.import_tlog(drone(31),
    substr(bytes, 1, 300000) || decode(repeat('00fefd17', 1000), 'hex') || substr(bytes, 400001)) i;
SELECT count(*), count(*) FILTER (WHERE o.recorded_at IS NULL) AS invented FROM samples d
LEFT JOIN samples o ON o.drone = 30 AND o.recorded_at = d.recorded_at AND o.latitude = d.latitude WHERE d.drone = 31;

DELETE FROM telemetry.drone_telemetry WHERE drone_id BETWEEN drone(1) AND drone(99);
DELETE FROM telemetry.drone_latest WHERE drone_id BETWEEN drone(1) AND drone(99);
DELETE FROM telemetry.drone_events WHERE drone_id BETWEEN drone(1) AND drone(99);
DELETE FROM telemetry.rejected_samples WHERE drone_id BETWEEN drone(1) AND drone(99);
DELETE FROM telemetry.link_statistics WHERE drone_id BETWEEN drone(1) AND drone(99);
DELETE FROM core.drones WHERE drone_id BETWEEN drone(1) AND drone(99);
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA mavlink_test CASCADE;
