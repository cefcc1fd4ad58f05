/*
 * anchor_send.h
 *		Ways out of the server for a digest: a file, a program.
 */
#ifndef SENTIENT_ANCHOR_SEND_H
#define SENTIENT_ANCHOR_SEND_H

/* Write a new file into the directory; on return it is on disk.  Errors out if it cannot, or if it is there. */
extern void anchor_send_file(const char *directory, const char *name, const char *digest);

/* Run a program that reads the digest from its standard input; errors out unless it succeeds in time. */
extern void anchor_send_command(char *const *arguments, int timeout_ms, const char *digest);

#endif							/* SENTIENT_ANCHOR_SEND_H */
