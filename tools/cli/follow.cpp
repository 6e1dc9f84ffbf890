// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/follow.hpp"

#include "tools/cli/output.hpp"
#include "tools/json.hpp"

#include <atomic>
#include <csignal>
#include <functional>

#include <fmt/format.h>

#include <unistd.h>

namespace wherry::tools {

namespace {

/// Interrupts from the terminal so far.
std::atomic<int> interrupts = 0;

void count_interrupt(int /*signal*/) {
    interrupts.fetch_add(1);
}

/// Draws a job's progress and passes interrupts on.
class Follower {
public:
    explicit Follower(const Following& how)
        : how_{how},
          terminal_{!how.json && ::isatty(::fileno(how.out)) != 0} {}

    bool operator()(const api::Job& job) {
        draw(job);
        const int pressed = interrupts.load();
        if (pressed >= 2) {
            detached_ = true;
            return false;
        }
        if (pressed == 1 && !cancel_sent_) {
            cancel_sent_ = true;
            send_cancel(job.id());
        }
        return true;
    }
    [[nodiscard]] bool detached() const { return detached_; }
    void end_line() const {
        if (drawn_) {
            fmt::print(how_.out, "\r\x1b[K");
        }
    }

private:
    void draw(const api::Job& job) {
        if (how_.json) {
            fmt::print(how_.out, "{}\n", to_json(job, JsonLayout::one_line));
        } else if (terminal_ && job.state() == "running") {
            fmt::print(how_.out, "\r\x1b[K{}", progress_line(job));
            drawn_ = true;
        }
        std::fflush(how_.out);
    }
    /// On a connection of its own: the one that watches waits for its answer.
    void send_cancel(const std::string& id) {
        const auto answer =
            formats::then(ApiClient::connect_to(how_.name), [&id](ApiClient client) {
                return client.cancel(id);
            });
        if (!answer) {
            print_error(answer.error());
        }
    }

    const Following& how_;
    bool terminal_;
    bool drawn_ = false;
    bool cancel_sent_ = false;
    bool detached_ = false;
};

} // namespace

formats::Result<std::optional<api::Job>>
follow(ApiClient& client, const api::Job& job, const Following& how) {
    struct sigaction on_interrupt{};
    on_interrupt.sa_handler = count_interrupt;
    on_interrupt.sa_flags = SA_RESTART;
    ::sigaction(SIGINT, &on_interrupt, nullptr);
    Follower follower{how};
    auto last = client.watch(job.id(), std::ref(follower));
    follower.end_line();
    if (!last) {
        return formats::fail(std::move(last).error());
    }
    if (follower.detached()) {
        fmt::print(
            stderr,
            "wherry: the job goes on; follow it with: wherry status {} --watch\n",
            how.name);
        return std::nullopt;
    }
    return *std::move(last);
}

} // namespace wherry::tools
