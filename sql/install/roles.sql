/*
 * roles.sql
 *		The cluster-wide roles.  They outlive the extension and may be there
 *		already, made by another database's installation or by hand: nothing that
 *		an existing role holds is taken away.
 */

-- For the whole script: CREATE EXTENSION puts the schemas of the extensions that
-- this one requires into search_path, and others may have planted functions and
-- operators there that fit a call better than those of pg_catalog do.
SET LOCAL search_path = pg_catalog, pg_temp;

-- One installer at a time in the whole cluster: the lock on a shared catalog
-- conflicts with itself only, so ordinary GRANTs elsewhere go on.
LOCK TABLE pg_catalog.pg_auth_members IN SHARE UPDATE EXCLUSIVE MODE;

DO $$
DECLARE
	made text[];
BEGIN
	FOREACH made SLICE 1 IN ARRAY ARRAY[
		['sentient_viewer', 'NOLOGIN', 'reads fleet, flight and analytics data of sentient_edge, no secrets'],
		['sentient_analyst', 'NOLOGIN', 'sentient_viewer, and detailed analytics of sentient_edge'],
		['sentient_operator', 'NOLOGIN', 'sentient_analyst, and runs the fleet: writes core tables and ingests telemetry'],
		['sentient_admin', 'NOLOGIN', 'sentient_operator, and manages users, settings and the audit trail'],
		['sentient_app', 'LOGIN', 'login of a pooled application of sentient_edge; holds nothing by itself']]
	LOOP
		BEGIN
			EXECUTE pg_catalog.format('CREATE ROLE %I %s', made[1], made[2]);
			EXECUTE pg_catalog.format('COMMENT ON ROLE %I IS %L', made[1], made[3]);
		EXCEPTION WHEN duplicate_object OR unique_violation THEN
			NULL;
		END;
	END LOOP;
END
$$;

-- sentient_admin > sentient_operator > sentient_analyst > sentient_viewer.  A
-- membership that is there already, with whatever options, is left as it is.
DO $$
DECLARE
	pair text[];
BEGIN
	FOREACH pair SLICE 1 IN ARRAY ARRAY[
		['sentient_viewer', 'sentient_analyst'],
		['sentient_analyst', 'sentient_operator'],
		['sentient_operator', 'sentient_admin']]
	LOOP
		CONTINUE WHEN EXISTS (SELECT FROM pg_catalog.pg_auth_members
							   WHERE roleid OPERATOR(pg_catalog.=) pair[1]::pg_catalog.regrole
								 AND member OPERATOR(pg_catalog.=) pair[2]::pg_catalog.regrole);
		BEGIN
			EXECUTE pg_catalog.format('GRANT %I TO %I', pair[1], pair[2]);
		EXCEPTION WHEN invalid_grant_operation THEN
			RAISE WARNING 'role "%" cannot be granted to role "%"', pair[1], pair[2]
				USING DETAIL = SQLERRM, HINT = 'Revoke the membership in the other direction, then grant this one.';
		END;
	END LOOP;
END
$$;
