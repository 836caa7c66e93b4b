/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "common/http-client.h"
#include "common/json.h"
#include "common/util.h"
#include "imaged/cli/cli.h"
#include "imaged/cli/image.h"

/* `image capture INSTANCE --name NAME`: the server reads the disk of a stopped instance into a new image. */

static int capture_start(struct cli *cli, const char *instance, const char *id, struct err *err)
{
        _cleanup_(freep) char *escaped = http_escape(instance);
        _cleanup_(json_decrefpp) json_t *body = json_pack("{s:s}", "image", id);

        if (!escaped || !body)
                return err_set(err, -ENOMEM, "out of memory");
        return cli_call(cli, "POST", body, NULL, err, "/v1/instances/%s/capture", escaped);
}

int cmd_image_capture(struct cli *cli, struct err *err)
{
        const char *instance = cli->arguments[0], *name = cli_value(cli, "--name");
        _cleanup_(freep) char *what = str_printf("capture instance %s", instance),
                              *how = str_printf("the disk of instance %s", instance);
        const struct image_filling f = {
            .source = instance, .start = capture_start, .doing = "capturing", .what = what, .how = how};

        if (!name)
                return cli_usage(cli, err, "image capture needs --name: what the image is to be called");
        if (!what || !how)
                return err_set(err, -ENOMEM, "out of memory");
        return image_fill(cli, name, "raw", &f, err);
}
