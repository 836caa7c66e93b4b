/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/checksum.h"
#include "common/clock.h"
#include "common/http-client.h"
#include "common/json.h"
#include "common/util.h"
#include "formats/formats.h"
#include "imaged/cli/image-inspect.h"
#include "imaged/cli/cli.h"
#include "imaged/cli/human.h"
#include "imaged/cli/image-send.h"
#include "imaged/cli/image.h"
#include "imaged/cli/interrupt.h"
#include "imaged/cli/progress.h"
#include "imaged/cli/sparse.h"
#include "imaged/cli/table.h"

#define DISCARD_TIMEOUT_MS 15000
#define PIECE ((size_t)1 << 20)

/* The last step of a path or of a URL without its query: [*ret, *ret + result). */
static size_t last_step(const char *text, const char **ret)
{
        size_t end = strstr(text, "://") ? strcspn(text, "?#") : strlen(text), begin;

        while (end > 0 && text[end - 1] == '/')
                end--;
        for (begin = end; begin > 0 && text[begin - 1] != '/'; begin--)
                ;
        *ret = text + begin;
        return end - begin;
}

char *image_name_from(const char *path_or_url)
{
        const char *step, *dot;
        size_t n = last_step(path_or_url, &step);

        dot = memrchr(step, '.', n);
        if (dot && dot > step)
                n = (size_t)(dot - step);
        return strndup(step, n);
}

const char *image_format_from(const char *path_or_url)
{
        static const char *const known[] = {"raw", "qcow2", "iso", "vmdk", "vdi", "vhd", "vhdx", "ova"};
        const char *step, *dot;
        size_t n = last_step(path_or_url, &step);

        dot = memrchr(step, '.', n);
        for (size_t i = 0; dot && i < ARRAY_SIZE(known); i++) {
                size_t len = strlen(known[i]);

                if (len == n - (size_t)(dot + 1 - step) && strncasecmp(dot + 1, known[i], len) == 0)
                        return known[i];
        }
        return NULL;
}

int image_create(struct cli *cli, const char *name, const char *disk_format, char ret_id[UUID_LEN + 1],
                 struct err *err)
{
        _cleanup_(json_decrefpp) json_t *body = json_pack(
            "{s:s,s:s,s:s,s:s*,s:s*}", "name", name, "disk_format", disk_format, "container_format", "bare",
            "os_distro", cli_value(cli, "--os"), "os_version", cli_value(cli, "--version"));
        _cleanup_(json_decrefpp) json_t *record = NULL;
        int r;

        if (!body)
                return err_set(err, -EINVAL, "the name \"%s\" is not UTF-8; give another one with --name",
                               name);
        interrupt_catch(NULL); /* cut off, this call could leave a record whose id nobody was told */
        r = cli_call(cli, "POST", body, &record, err, "/v2/images");
        if (r < 0)
                return r;
        if (!uuid_valid(json_get_str(record, "id", "")))
                return err_set(err, -EBADMSG, "%s: the server made an image without an id", cli->url);
        snprintf(ret_id, UUID_LEN + 1, "%s", json_get_str(record, "id", ""));
        interrupt_cancels(cli->http);
        return 0;
}

int image_discard(struct cli *cli, const char *id)
{
        _cleanup_(freep) char *path = str_printf("/v2/images/%s?purge=true", id);
        struct http_client *http = NULL;
        int r = path ? http_client_new(cli->url, cli->token, DISCARD_TIMEOUT_MS, &http, NULL) : -ENOMEM;

        if (r == 0)
                r = http_call(http, "DELETE", path, NULL, NULL, NULL, NULL);
        http_client_free(http);
        return r == -ENOENT ? 0 : r;
}

void image_tell_added(struct cli *cli, const json_t *image, const char *how)
{
        int64_t size = json_get_int(image, "virtual_size", json_get_int(image, "size", 0));
        _cleanup_(freep) char *name = text_printable(json_get_str(image, "name", "?"));
        char buf[24];

        if (cli->json)
                cli_print(cli, image);
        else
                printf("image %s is added: %s, %s%s%s\nid %s\n", name ? name : "?",
                       json_get_str(image, "disk_format", "?"),
                       size_format((uint64_t)size, buf, sizeof(buf)), how[0] ? ", " : "", how,
                       json_get_str(image, "id", "?"));
}

static int image_input_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        return image_read(state, buf, len, offset, err);
}

static int image_input_extent(void *state, uint64_t offset, uint64_t *ret_len, bool *ret_data,
                              struct err *err)
{
        return image_extent(state, offset, ret_len, ret_data, err);
}

/* The server takes a raw disk that looks like a file of another format for a trap; better said before it is
 * sent. */
static int disk_check(struct cli *cli, const char *path, const struct image_info *info, struct image *img,
                      struct err *err)
{
        const struct source disk = {.size = image_size(img), .read = image_input_read, .state = img};
        struct image_info inner;
        int r;

        if (info->format == IMAGE_RAW || info->format == IMAGE_ISO9660)
                return 0;
        r = image_inspect_quick(&disk, IMAGE_RAW, &inner, err);
        if (r < 0)
                return err_wrap(err, r, "%s: the disk inside", path);
        return inner.n_refusals > 0 ? image_refused(cli, path, &inner, err) : 0;
}

/* The record, the data, the record again; whatever goes wrong, and Ctrl-C, leaves no image behind. */
static int add_opened(struct cli *cli, const char *name, int fd, const struct stat *begin,
                      const struct image_info *info, struct image *img, struct err *err)
{
        const struct sparse_input in = {
            .size = image_size(img), .read = image_input_read, .extent = image_input_extent, .state = img};
        _cleanup_(json_decrefpp) json_t *added = NULL;
        char id[UUID_LEN + 1], how[96], size[24], time[HUMAN_LEN];
        int64_t start = clock_ms();
        uint64_t sent = 0;
        int r;

        r = image_create(cli, name, info->format == IMAGE_ISO9660 ? "iso" : "raw", id, err);
        if (r < 0)
                return r;
        r = image_send(cli, id, name, &in, fd, begin, &sent, err);
        if (r == 0)
                r = cli_call(cli, "GET", NULL, &added, err, "/v2/images/%s", id);
        if (r < 0) {
                bool gone = image_discard(cli, id) == 0;

                if (interrupted())
                        err_set(err, r, "interrupted");
                else if (r == -ENOSPC)
                        err_set(err, r, "%s; \"wherry store\" shows how full the server's store is",
                                err_text(err));
                return err_wrap(err, r, "image %s is not added%s%s%s", name, gone ? "" : " (and its record ",
                                gone ? "" : id, gone ? "" : " is left; remove it with \"wherry image rm\")");
        }
        interrupt_release();
        snprintf(how, sizeof(how), "%s sent in %s", size_format(sent, size, sizeof(size)),
                 human_duration(clock_ms() - start, time));
        image_tell_added(cli, added, how);
        return 0;
}

/* The file as it is given, read once before anything is asked of the server. */
static int checksum_file(struct cli *cli, int fd, const char *path, struct err *err)
{
        const char *text = cli_value(cli, "--checksum");
        _cleanup_(checksum_freep) struct checksum *checksum = NULL;
        _cleanup_(freep) char *what = str_printf("checking %s", path);
        _cleanup_(freep) uint8_t *buf = malloc(PIECE);
        struct progress progress;
        struct stat st;
        uint64_t done = 0;
        ssize_t n = 0;
        int r;

        if (!text)
                return 0;
        if (!what || !buf)
                return err_set(err, -ENOMEM, "out of memory");
        if (fstat(fd, &st) < 0)
                return err_set(err, -errno, "%s: %s", path, strerror(errno));
        r = checksum_new(text, &checksum, err);
        progress_begin(&progress, what, cli->json);
        while (r == 0 && (n = pread(fd, buf, PIECE, (off_t)done)) > 0) {
                r = checksum_feed(checksum, buf, (size_t)n, err);
                done += (uint64_t)n;
                progress_draw(&progress, done, (uint64_t)st.st_size);
        }
        progress_end(&progress);
        if (n < 0)
                return err_set(err, -errno, "%s: %s", path, strerror(errno));
        if (r == 0)
                r = checksum_check(checksum, err);
        return r < 0 ? err_wrap(err, r, "%s is refused", path) : 0;
}

int image_add_file(struct cli *cli, const char *path, struct err *err)
{
        _cleanup_(freep) char *own = image_name_from(path);
        _cleanup_(closep) int fd = -1;
        const char *format = cli_value(cli, "--format"), *name = cli_value(cli, "--name");
        int declared = format ? image_format_parse(format) : -1, r;
        struct image_info info = {0};
        struct image *img = NULL;
        struct source src;
        struct stat begin;

        r = image_file_open(path, &fd, &src, err);
        if (r < 0)
                return r;
        if (fstat(fd, &begin) < 0)
                return err_set(err, -errno, "%s: %s", path, strerror(errno));
        r = checksum_file(cli, fd, path, err);
        if (r < 0)
                return r;
        r = image_inspect(&src, declared, &info, err);
        if (r < 0)
                return err_wrap(err, r, "%s", path);
        if (info.n_refusals > 0)
                return image_refused(cli, path, &info, err);
        r = image_open(&src, &info, &img, err);
        if (r < 0)
                return err_wrap(err, r, "%s", path);
        r = disk_check(cli, path, &info, img, err);
        if (r == 0)
                r = name || own ? add_opened(cli, name ? name : own, fd, &begin, &info, img, err)
                                : err_set(err, -ENOMEM, "out of memory");
        image_close(img);
        return r;
}

int cmd_image_add(struct cli *cli, struct err *err)
{
        const char *what = cli->arguments[0], *format = cli_value(cli, "--format"),
                   *checksum = cli_value(cli, "--checksum");
        _cleanup_(checksum_freep) struct checksum *check = NULL;

        if (format && image_format_parse(format) < 0)
                return cli_usage(cli, err, "--format %s: raw, qcow2, iso, vmdk, vdi, vhd, vhdx or ova",
                                 format);
        if (checksum && checksum_new(checksum, &check, err) < 0)
                return cli_usage(
                    cli, err, "--checksum %.140s: sha256:HEX or sha512:HEX, of the file as it is", checksum);
        if (cli_value(cli, "--name") && !cli_value(cli, "--name")[0])
                return cli_usage(cli, err, "--name \"\": a name has 1 to 255 bytes");
        if (cli_given(cli, "--from-store"))
                return image_add_volume(cli, what, err);
        if (strstr(what, "://"))
                return image_add_url(cli, what, err);
        return image_add_file(cli, what, err);
}
