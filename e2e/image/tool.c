/*
 * The one program inside the images of the end-to-end tests: a static binary in an
 * otherwise empty image, so that no registry is needed. Its first argument says what it does.
 * It runs as PID 1, where the kernel ignores signals without a handler; therefore each
 * command that should end on SIGTERM installs one.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int trap_code;

static void exit_with_code(int signal_number) {
    (void)signal_number;
    _exit(trap_code);
}

static void exit_with_signal(int signal_number) { _exit(100 + signal_number); }

static void on(int signal_number, void (*handler)(int)) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    sigaction(signal_number, &action, NULL);
}

_Noreturn static void wait_for_ever(void) {
    for (;;) pause();
}

/* Gives way for some milliseconds. */
static void rest(long milliseconds) {
    struct timespec span = {milliseconds / 1000, (milliseconds % 1000) * 1000000L};
    nanosleep(&span, NULL);
}

/* sleep: until SIGTERM, then 143 as a shell would report it. */
_Noreturn static void run_sleep(void) {
    trap_code = 143;
    on(SIGTERM, exit_with_code);
    wait_for_ever();
}

/* trap CODE: until SIGTERM, then CODE. */
_Noreturn static void run_trap(const char *code) {
    trap_code = atoi(code);
    on(SIGTERM, exit_with_code);
    wait_for_ever();
}

/* stubborn: ignores SIGTERM, only SIGKILL ends it. */
_Noreturn static void run_stubborn(void) {
    on(SIGTERM, SIG_IGN);
    wait_for_ever();
}

/* signal: exits with 100 + the number of the signal that came. */
_Noreturn static void run_signal(void) {
    const int signals[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) on(signals[i], exit_with_signal);
    wait_for_ever();
}

/* exit CODE [MILLISECONDS]: ends by itself, after the given time. */
static int run_exit(int argc, char **argv) {
    if (argc > 3) rest(atol(argv[3]));
    return atoi(argv[2]);
}

/* say WORD...: prints the words, one a line, then the environment. */
static int run_say(int argc, char **argv) {
    for (int i = 2; i < argc; i++) printf("word %s\n", argv[i]);
    for (char **variable = environ; *variable; variable++) printf("env %s\n", *variable);
    return 0;
}

/* lines COUNT MILLISECONDS [CODE]: "out N" and "err N", with a rest after each pair; SIGTERM ends it early. */
static int run_lines(int argc, char **argv) {
    trap_code = 143;
    on(SIGTERM, exit_with_code);
    for (int i = 1; i <= atoi(argv[2]); i++) {
        printf("out %d\n", i);
        fprintf(stderr, "err %d\n", i);
        rest(atol(argv[3]));
    }
    return argc > 4 ? atoi(argv[4]) : 0;
}

/* odd: what is no plain line: other bytes, a line longer than Docker keeps in one piece, no line break at the end. */
static int run_odd(void) {
    fputs("gr\xc3\xb6\xc3\x9f" "er\n", stdout);
    for (int i = 0; i < 10000; i++) fputs("\xe2\x82\xac", stdout);
    fputs("\n", stdout);
    fwrite("\x00\xff\x1b\n", 1, 4, stdout);
    fputs("end", stdout);
    return 0;
}

/* listen PORT: answers each TCP connection with "hello" and closes it. */
static int run_listen(const char *port) {
    trap_code = 143;
    on(SIGTERM, exit_with_code);
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((unsigned short)atoi(port));
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 16)) {
        perror("listen");
        return 3;
    }
    for (;;) {
        int connection = accept(listener, NULL, NULL);
        if (connection < 0) continue;
        if (write(connection, "hello\n", 6) < 0) perror("write");
        close(connection);
    }
}

/*
 * oom: a child takes memory until the kernel ends it; then we end with the same code. The Engine
 * begins to listen for the kernel's word about memory only after the start, and the word reaches it
 * by another way than a container's end does; it is lost when it comes too early or after the end.
 */
static int run_oom(void) {
    rest(700);
    pid_t child = fork();
    while (child == 0) {
        char *block = malloc(1 << 20);
        if (block) memset(block, 1, 1 << 20);
    }
    int status = 0;
    waitpid(child, &status, 0);
    rest(700);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : 1;
}

/* hold MIB: takes so much memory and keeps it, then as sleep. */
_Noreturn static void run_hold(const char *mib) {
    size_t size = (size_t)atoi(mib) << 20;
    /* Volatile, or the compiler sees that nobody ever reads it and takes none. */
    volatile char *block = malloc(size);
    for (size_t i = 0; block && i < size; i += 4096) block[i] = 1;
    puts(block ? "holding" : "no memory");
    run_sleep();
}

/* put PATH TEXT: writes a file and says whether that worked, then as sleep. */
static int run_put(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    if (!file || fprintf(file, "%s\n", text) < 0 || fclose(file)) perror("put");
    else printf("put %s\n", path);
    run_sleep();
}

/* get PATH: prints a file, waiting some seconds for it to be there. */
static int run_get(const char *path) {
    for (int tries = 0; tries < 100; tries++, rest(100)) {
        char line[256];
        FILE *file = fopen(path, "r");
        if (!file || !fgets(line, sizeof line, file)) continue;
        printf("got %s", line);
        return 0;
    }
    perror("get");
    return 1;
}

/* processes: the command lines of all processes to be seen, then as sleep. */
static int run_processes(void) {
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    while (processes && (entry = readdir(processes))) {
        char path[300], command[256];
        if (!isdigit(entry->d_name[0])) continue;
        snprintf(path, sizeof path, "/proc/%s/cmdline", entry->d_name);
        FILE *file = fopen(path, "r");
        size_t length = file ? fread(command, 1, sizeof command - 1, file) : 0;
        if (file) fclose(file);
        command[length] = 0;
        for (size_t i = 0; i + 1 < length; i++) if (!command[i]) command[i] = ' ';
        printf("process %s %s\n", entry->d_name, command);
    }
    puts("that is all");
    run_sleep();
}

/* share TEXT: puts a text into shared memory, then as sleep. */
static int run_share(const char *text) {
    int id = shmget(4711, 64, IPC_CREAT | 0600);
    char *memory = id < 0 ? NULL : shmat(id, NULL, 0);
    if (memory) snprintf(memory, 64, "%s", text);
    puts(memory ? "shared" : "not shared");
    run_sleep();
}

/* shared: prints the text that another process put into shared memory, waiting some seconds for it. */
static int run_shared(void) {
    for (int tries = 0; tries < 50; tries++, rest(100)) {
        int id = shmget(4711, 64, 0);
        const char *memory = id < 0 ? NULL : shmat(id, NULL, 0);
        if (!memory || !*memory) continue;
        printf("found %s\n", memory);
        return 0;
    }
    puts("found nothing");
    return 1;
}

int main(int argc, char **argv) {
    const char *command = argc > 1 ? argv[1] : "sleep";
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!strcmp(command, "sleep")) run_sleep();
    if (!strcmp(command, "stubborn")) run_stubborn();
    if (!strcmp(command, "signal")) run_signal();
    if (!strcmp(command, "say")) return run_say(argc, argv);
    if (!strcmp(command, "oom")) return run_oom();
    if (!strcmp(command, "odd")) return run_odd();
    if (!strcmp(command, "lines") && argc > 3) return run_lines(argc, argv);
    if (!strcmp(command, "trap") && argc > 2) run_trap(argv[2]);
    if (!strcmp(command, "exit") && argc > 2) return run_exit(argc, argv);
    if (!strcmp(command, "listen") && argc > 2) return run_listen(argv[2]);
    if (!strcmp(command, "hold") && argc > 2) run_hold(argv[2]);
    if (!strcmp(command, "put") && argc > 3) return run_put(argv[2], argv[3]);
    if (!strcmp(command, "get") && argc > 2) return run_get(argv[2]);
    if (!strcmp(command, "processes")) return run_processes();
    if (!strcmp(command, "share") && argc > 2) return run_share(argv[2]);
    if (!strcmp(command, "shared")) return run_shared();
    fprintf(stderr, "unknown command %s\n", command);
    return 64;
}
