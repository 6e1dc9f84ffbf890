// SPDX-License-Identifier: Apache-2.0
#include "migrate/aftermath.hpp"

#include "migrate/ownership/words.hpp"

#include <utility>

namespace wherry::migrate {

using formats::ErrorCode;
using formats::Status;
using transport::Task;

Aftermath::Aftermath(
    formats::Side us, AftermathOptions options, const transport::Executor& executor)
    : options_{std::move(options)},
      runner_{*options_.owner, *this, executor},
      link_{
          us,
          executor,
          {.on_word = [this](const event::Received& word, const Control&) { runner_.tell(word); },
           .on_peer_trouble = {},
           .on_missing = {},
           .on_placed = {},
           .on_lost =
               [this](const formats::Error& error) {
                   runner_.tell(event::Disconnected{error.text()});
               },
           .on_ended =
               [this] {
                   runner_.tell(event::Disconnected{"the other side has ended the connection"});
               }}},
      helpers_{executor} {
    link_.hear_words();
}

Task<void> Aftermath::run(std::function<bool()> is_over) {
    auto executor = co_await boost::asio::this_coro::executor;
    transport::TaskGroup running{executor};
    running.start(runner_.run());
    auto over = co_await runner_.wait_until(
        [this, &is_over] { return !owner().is_busy() && (is_stopped_ || is_over()); });
    runner_.stop();
    auto ran = co_await running.join();
    co_await helpers_.end();
    if (link_.has_channel()) {
        co_await link_.rest();
        auto said = co_await link_.channel().finish(longest_farewell);
        (void)said; // all that counts has been said, or is asked for again
    }
    co_return over ? ran : over;
}

void Aftermath::stop() {
    is_stopped_ = true;
    runner_.look_again();
}

Task<void> Aftermath::take(std::unique_ptr<SessionChannel> channel, Attempt peers) {
    co_await link_.adopt(std::move(channel));
    runner_.tell(event::Connected{std::move(peers)});
    co_return Status{};
}

void Aftermath::say(
    std::function<formats::Result<OwnershipActions>(Owner&)> word, std::function<void()> on_done) {
    helpers_.start(
        runner_.at_a_persons_word(std::move(word)),
        [this, done = std::move(on_done)](const Status& /*the owner's sentence says it*/) {
            done();
            runner_.look_again();
        });
}

Status Aftermath::write_record(const OwnershipRecord& record) {
    return options_.keeper->write(record);
}

formats::Result<std::optional<ArbiterRecord>>
Aftermath::ask_arbiter(const action::AskArbiter& question) {
    return options_.keeper->ask(question);
}

Task<void> Aftermath::send_word(MessageKind kind, Epoch epoch) {
    co_return co_await link_.say(message_of(kind, epoch));
}

Task<void> Aftermath::start_guest(bool from_memory) {
    if (from_memory || !options_.boot) {
        co_return formats::fail(
            ErrorCode::wrong_state, "its memory is gone with its process: it is to be booted");
    }
    co_return co_await transport::offload(worker_.get_executor(), options_.boot);
}

/// There is none.
Task<void> Aftermath::stop_guest() {
    co_return Status{};
}

/// As above.
Task<void> Aftermath::drop_memory() {
    co_return Status{};
}

/// Nothing is here that could be written.
Task<void> Aftermath::try_stop_guest() {
    co_return formats::fail(
        ErrorCode::wrong_state,
        "this process has started again: no half of the VM's memory is here");
}

Task<void> Aftermath::let_guest_go_on() {
    co_return Status{};
}

void Aftermath::reconnect() {
    if (!options_.call_peer) {
        return; // it is the source that connects
    }
    helpers_.start(call(), [this](const Status& reached) {
        if (!reached) {
            runner_.tell(event::Disconnected{reached.error().text()});
        }
    });
}

Task<void> Aftermath::call() {
    auto channel = co_await options_.call_peer();
    if (!channel) {
        co_return formats::fail(std::move(channel).error());
    }
    co_return co_await take(*std::move(channel), options_.attempt);
}

void Aftermath::owner_moved() {
    link_.set_trouble(options_.owner->trouble());
    if (options_.on_moved) {
        options_.on_moved();
    }
}

} // namespace wherry::migrate
