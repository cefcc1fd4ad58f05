#!/bin/sh
# fuzz_json.sh SECONDS
#		Runs build/fuzz_json.so in a throw-away single-user server; `make run` beside it
#		calls it.  What it finds stays in build/corpus/fuzz_json and build/crash-*.
#
# The server is not instrumented, so the sanitizers' runtime is preloaded into it,
# as test/tools/sanitize does and for the reasons given there.

cd "$(dirname "$0")/../.." || exit 1
. test/tools/lib.sh

find_postgres
make_run_folder
BIN=$("$PG_CONFIG" --bindir)
fuzz=test/fuzz
runtime=$(clang -print-file-name="libclang_rt.asan-$(uname -m).so")
[ -f "$runtime" ] || runtime=$(clang -print-file-name=libclang_rt.asan.so)
[ -f "$runtime" ] || die "clang has no shared AddressSanitizer runtime"
echo 'char *bindtextdomain(const char *domain, const char *folder) { return (char *) folder; }' |
	clang -shared -fPIC -Wno-incompatible-library-redeclaration -x c -o "$RUN/no_catalogs.so" -

mkdir -p "$fuzz/build/corpus/fuzz_json" "$RUN/found" "$RUN/seeds"
cp "$fuzz/build/fuzz_json.so" "$fuzz/json.dict" "$RUN"
cp "$fuzz"/corpus/fuzz_json/* "$RUN/seeds"
find "$fuzz/build/corpus/fuzz_json" -type f -exec cp {} "$RUN/found" \;
chmod 755 "$RUN/no_catalogs.so" "$RUN/fuzz_json.so"
give_run_folder

as_test_user "$BIN/initdb" -D "$RUN/data" -A trust -U postgres -E UTF8 --locale=C --no-sync >"$RUN/initdb.log" 2>&1 ||
	{ cat "$RUN/initdb.log" && die "initdb failed"; }
printf '%s\n' "CREATE FUNCTION fuzz_json(text) RETURNS integer LANGUAGE c STRICT AS '$RUN/fuzz_json'" \
	"SELECT fuzz_json('-max_total_time=$1 -max_len=4096 -timeout=10 -rss_limit_mb=4096 -print_final_stats=1 -dict=$RUN/json.dict -artifact_prefix=$RUN/ $RUN/found $RUN/seeds')" >"$RUN/commands"
status=0
as_test_user env ASAN_OPTIONS=detect_leaks=0:use_sigaltstack=0:detect_stack_use_after_return=0 \
	UBSAN_OPTIONS=print_stacktrace=1 LD_PRELOAD="$runtime $RUN/no_catalogs.so" \
	"$BIN/postgres" --single -D "$RUN/data" postgres <"$RUN/commands" >"$RUN/output" 2>&1 || status=$?
grep -vE '^(backend>|	|PostgreSQL stand-alone)' "$RUN/output" | tail -n 60
cp "$RUN"/found/* "$fuzz/build/corpus/fuzz_json/" 2>/dev/null || true
for found in "$RUN"/crash-* "$RUN"/timeout-* "$RUN"/oom-*; do
	[ -f "$found" ] || continue
	cp "$found" "$fuzz/build/" && say "kept: $fuzz/build/${found##*/}"
	status=1
done
# libFuzzer ends the process itself; a server that did not get that far says nothing of the kind
grep -q '^stat::number_of_executed_units' "$RUN/output" || die "the fuzzer did not run to its end"
exit $status
