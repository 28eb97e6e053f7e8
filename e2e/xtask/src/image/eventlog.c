/* Prints a line for each UDP datagram on a port, with this node's clock at the moment the kernel received it.
 * Every node that hears the same broadcast logs the same event. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int on = 1, socket_fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 9)};
    setsockopt(socket_fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    setsockopt(socket_fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof on);
    if (bind(socket_fd, (void *)&own, sizeof own)) {
        perror("bind");
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("listening\n");
    for (;;) {
        char text[128], control[256], when[64];
        struct iovec io = {text, sizeof text - 1};
        struct msghdr message = {
            .msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        ssize_t length = recvmsg(socket_fd, &message, 0);
        if (length < 0)
            continue;
        text[length] = 0;
        struct timespec at;
        clock_gettime(CLOCK_REALTIME, &at);
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
            if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS)
                memcpy(&at, CMSG_DATA(c), sizeof at);
        struct tm tm;
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", gmtime_r(&at.tv_sec, &tm));
        printf("%s.%06ldZ %s\n", when, at.tv_nsec / 1000, text);
    }
}
