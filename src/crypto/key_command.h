/*
 * key_command.h
 *		A program that prints master keys.
 */
#ifndef SENTIENT_KEY_COMMAND_H
#define SENTIENT_KEY_COMMAND_H

/*
 * Run a program and read what it prints; words are separated by blanks, or
 * enclosed in double quotes.  Returns the number of bytes, or -1 with the reason
 * in problem; the caller zeroes output in either case.
 */
extern int	key_command_run(const char *command, int timeout_ms, char *output, size_t size,
							char *problem, size_t problem_size);

#endif							/* SENTIENT_KEY_COMMAND_H */
