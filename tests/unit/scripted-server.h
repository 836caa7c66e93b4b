/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_client;

/*
 * A server of one thread that says exactly what a test wants, byte by byte: also what no library would send.
 * Each test gives it one script; it serves connections until it is stopped.
 */
struct scripted_server {
        int listener;
        unsigned port;
        pthread_t thread;
        char base[64];
        const char *reply;  /* what to send after each request's head */
        size_t reply_len;   /* 0: strlen */
        bool silent;        /* read the request, say nothing */
        bool before_body;   /* reply without reading the body, then close */
        bool keep;          /* more than one request a connection */
        char request[8192]; /* the last head with what came of the body */
        uint64_t body_bytes;
        atomic_int connections, requests;
};

/* On a free port of the loopback address; a failed assertion ends the test. stop: also ends its thread. */
void scripted_server_start(struct scripted_server *s);
void scripted_server_stop(struct scripted_server *s);

/* A client of it with the token "s3cret"; the caller frees it. */
struct http_client *scripted_client(const char *base, int timeout_ms);
