/*
 * The program of a pod's sandbox container. It holds the pod's namespaces open and does nothing else: as
 * process 1 it must end on SIGTERM, which has no default action there, and reap the orphans of a pod
 * whose containers share its process namespace.
 */
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

static void reap_orphans(int signal_number)
{
	(void)signal_number;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static void leave(int signal_number)
{
	(void)signal_number;
	_exit(0);
}

static int on_signal(int signal_number, void (*act)(int))
{
	struct sigaction action = {.sa_handler = act, .sa_flags = SA_NOCLDSTOP | SA_RESTART};

	return sigaction(signal_number, &action, NULL);
}

int main(void)
{
	if (on_signal(SIGCHLD, reap_orphans) || on_signal(SIGTERM, leave) || on_signal(SIGINT, leave))
		return 1;
	for (;;)
		pause();
}
