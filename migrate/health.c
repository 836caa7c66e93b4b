/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/health.h"

#include <stddef.h>
#include <string.h>

#include "common/util.h"

/* --- an end --- */

bool health_wished_off(const struct end_view *v)
{
        if (v->word != END_POWER_OFF || v->ours || v->host_leaves || v->rebooted)
                return false;
        return !v->pressed || v->pressed_ms > HEALTH_BUTTON_MS;
}

bool health_end_asks(const struct end_look *l)
{
        return l->heard || (l->record_says_running && l->ran_at_epoch && !l->known);
}

/* --- a stop --- */

#define TRY_MIN_MS 2000
#define TRY_MAX_MS 60000
#define FORGIVEN_MS (2 * (int64_t)TRY_MAX_MS) /* without an error for so long: the next one is the first */

const char *health_pause_name(enum health_pause p)
{
        static const char *const names[PAUSE_MAX] = {
            [PAUSE_NONE] = "runs",
            [PAUSE_PASSING] = "on its way",
            [PAUSE_FULL] = "storage full",
            [PAUSE_ERROR] = "disk error",
            [PAUSE_SUSPENDED] = "suspended on its host",
            [PAUSE_OTHER] = "stopped by libvirt",
        };

        return (unsigned)p < PAUSE_MAX ? names[p] : "?";
}

enum health_pause health_pause(bool running, bool job, const char *reason, enum health_room room)
{
        if (running)
                return room == ROOM_NONE_WAITS ? PAUSE_FULL : PAUSE_NONE;
        if (strcmp(reason, "ioerror") == 0)
                return room == ROOM_NONE || room == ROOM_NONE_WAITS ? PAUSE_FULL : PAUSE_ERROR;
        if (job)
                return PAUSE_PASSING;
        if (strcmp(reason, "user") == 0)
                return PAUSE_SUSPENDED;
        if (strcmp(reason, "watchdog") == 0 || strcmp(reason, "crashed") == 0)
                return PAUSE_OTHER;
        return PAUSE_PASSING;
}

void health_stop_error(struct health_stop *s, int64_t now_ms)
{
        int64_t pause = TRY_MIN_MS;

        if (now_ms - s->error_ms > FORGIVEN_MS)
                s->errors = 0;
        for (unsigned i = 0; i < s->errors && pause < TRY_MAX_MS; i++)
                pause *= 2;
        s->errors++;
        s->error_ms = now_ms;
        s->try_ms = now_ms + MIN_OF(pause, TRY_MAX_MS);
        s->asked = s->full = false;
}

static bool no_room(enum health_room room)
{
        return room == ROOM_NONE || room == ROOM_NONE_WAITS;
}

/* Room that has come back ends the wait. */
static bool try_due(const struct health_stop *s, enum health_room room, int64_t now_ms)
{
        return !no_room(room) && (now_ms >= s->try_ms || (s->full && room == ROOM_THERE));
}

bool health_stop_ask(const struct health_stop *s, enum health_room room, int64_t now_ms)
{
        return !s->asked || try_due(s, room, now_ms);
}

enum health_verdict health_stopped(struct health_stop *s, enum health_rights rights, enum health_room room,
                                   int64_t now_ms)
{
        bool due = try_due(s, room, now_ms);

        if (rights == RIGHTS_REFUSED)
                return HEALTH_KILL;
        s->asked |= rights == RIGHTS_MINE;
        if (no_room(room))
                s->full = true;
        if (!due || rights != RIGHTS_MINE)
                return HEALTH_STAND;
        s->full = false;
        return HEALTH_GO_ON;
}

bool health_stalled(int64_t *since_ms, bool running, bool job, const char *reason, int64_t now_ms)
{
        if (running || job || strcmp(reason, "ioerror") == 0 || strcmp(reason, "user") == 0) {
                *since_ms = 0;
                return false;
        }
        if (!*since_ms)
                *since_ms = now_ms;
        return now_ms - *since_ms >= HEALTH_STALLED_MS;
}

/* --- a crash --- */

#define RESTART_MIN_MS 1000
#define RESTART_MAX_MS 60000

const char *health_end_name(const char *word)
{
        static const struct {
                const char *word, *name;
        } names[] = {
            {"panicked", "its kernel panicked"},
            {"destroyed", "it was ended on its host by somebody else"},
            {"crashed", "its QEMU crashed or was killed"},
            {"failed", "its QEMU crashed or was killed"},
            {"shutdown", "its QEMU was ended by a signal"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (strcmp(word, names[i].word) == 0)
                        return names[i].name;
        return "its QEMU is gone, and nobody saw why";
}

int64_t health_restart_pause_ms(unsigned n)
{
        int64_t pause = RESTART_MIN_MS;

        for (unsigned i = 1; i < n && pause < RESTART_MAX_MS; i++)
                pause *= 2;
        return MIN_OF(pause, RESTART_MAX_MS);
}
