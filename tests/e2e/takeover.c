// Native code in the process of a node, as if a guest had broken out of its sandbox.
//
// In: SIGUSR1; what to try, from the environment variable TAKEOVER: a verb and an object per line. Out: a line per attempt on
// standard error, `taken: VERB OBJECT: ok` or the number of the error. Loaded with LD_PRELOAD. Must not know: the program.
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int opened(int fd) {
    if (fd < 0) return errno;
    close(fd);
    return 0;
}

static int reach(int kind, int protocol, const char *port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, kind, protocol);
    if (fd < 0) return errno;
    int failed = connect(fd, (struct sockaddr *)&at, sizeof at) ? errno : 0;
    if (!failed && kind == SOCK_DGRAM && send(fd, "x", 1, 0) < 0) failed = errno;
    close(fd);
    return failed;
}

static int run(const char *program) {
    pid_t child = fork();
    if (child == 0) {
        execl(program, program, (char *)0);
        _exit(errno);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

static int attempt(const char *verb, const char *object) {
    errno = 0;
    if (!strcmp(verb, "read")) return opened(open(object, O_RDONLY));
    if (!strcmp(verb, "write")) return opened(open(object, O_WRONLY | O_CREAT, 0600));
    if (!strcmp(verb, "list")) return opened(open(object, O_RDONLY | O_DIRECTORY));
    if (!strcmp(verb, "tcp")) return reach(SOCK_STREAM, 0, object);
    if (!strcmp(verb, "mptcp")) return reach(SOCK_STREAM, 262, object);
    if (!strcmp(verb, "udp")) return reach(SOCK_DGRAM, 0, object);
    if (!strcmp(verb, "run")) return run(object);
    if (!strcmp(verb, "kill")) return kill(atoi(object), 0) ? errno : 0;
    if (!strcmp(verb, "trace")) return ptrace(PTRACE_ATTACH, atoi(object), 0, 0) ? errno : 0;
    if (!strcmp(verb, "ring")) return syscall(SYS_io_uring_setup, 1, 0) < 0 ? errno : 0;
    return -1;
}

static void taken(int signal) {
    (void)signal;
    static char all[1 << 16];
    const char *given = getenv("TAKEOVER");
    strncpy(all, given ? given : "", sizeof all - 1);
    for (char *line = strtok(all, "\n"); line; line = strtok(0, "\n")) {
        char *object = strchr(line, ' ');
        if (!object) continue;
        *object++ = 0;
        char said[1 << 12];
        int failed = attempt(line, object);
        if (failed) snprintf(said, sizeof said, "taken: %s %s: %d\n", line, object, failed);
        else snprintf(said, sizeof said, "taken: %s %s: ok\n", line, object);
        if (write(2, said, strlen(said)) < 0) return;
    }
    if (write(2, "taken: all\n", 11) < 0) return;
}

__attribute__((constructor)) static void begin(void) { signal(SIGUSR1, taken); }
