/* SPDX-License-Identifier: Apache-2.0 */
#include "hostd/peers.h"

#include <errno.h>
#include <stdio.h>

#include "common/http-client.h"
#include "common/json.h"
#include "hostd/record.h"

#define LOOK_MS 1000

void peer_id(unsigned number, char ret[PEER_ID_LEN])
{
        snprintf(ret, PEER_ID_LEN, "%u", number);
}

int peer_record(struct context *ctx, unsigned number, json_t **ret, struct err *err)
{
        char id[PEER_ID_LEN];
        int r;

        peer_id(number, id);
        r = record_load(ctx->store, RECORD_HOST, id, ret, NULL, err);
        return r == -ENOENT ? err_set(err, -ENOENT, "no host has the number %u", number) : r;
}

int peer_look(struct context *ctx, unsigned number, const char *instance, bool to_start, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *host = NULL, *body = NULL;
        struct http_client *c = NULL;
        int r;

        r = peer_record(ctx, number, &host, err);
        if (r == 0)
                r = http_client_new(json_get_str(host, "api", ""), ctx->config->token, LOOK_MS, &c, err);
        if (r < 0)
                return r;
        body = json_pack("{s:s,s:b}", "instance", instance, "start", to_start);
        r = http_call(c, "POST", "/v1/look", body, NULL, NULL, err);
        http_client_free(c);
        return r;
}
