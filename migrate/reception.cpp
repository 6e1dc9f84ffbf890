// SPDX-License-Identifier: Apache-2.0
#include "migrate/reception.hpp"

#include "formats/error_message.hpp"
#include "transport/notification.hpp"
#include "transport/task_group.hpp"

#include <algorithm>
#include <deque>
#include <optional>
#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

namespace {

using formats::ErrorCode;
using formats::Status;
using transport::Task;

/// Channels of one migration that were let in and not yet fetched.
constexpr std::size_t waiting_limit = 2 * channels_limit;
/// Of sources that wait for their turn to ask.
constexpr std::size_t inquiries_limit = 8;

formats::Error refusal(std::string text) {
    return formats::Error{ErrorCode::refused, std::move(text)}.at(
        formats::Phase::plan, formats::Side::destination);
}

} // namespace

struct Intake::State {
    State(const transport::Executor& executor, ReceptionOptions with)
        : options{std::move(with)},
          changed{executor},
          greetings{executor} {}

    Task<void> greet(std::unique_ptr<transport::ByteStream> stream);
    Task<ChannelName> admit(SessionChannel& channel);
    Task<ChannelName> hear(SessionChannel& channel);
    Task<void> wait_for_turn(const ChannelName& name);
    [[nodiscard]] bool is_about_intake(const ChannelName& name) const;
    [[nodiscard]] Status check_ticket(const ChannelName& name) const;
    [[nodiscard]] Status check_inquiry(const ChannelName& name) const;
    [[nodiscard]] Status check_probe() const;
    [[nodiscard]] Status check(const ChannelName& name) const;
    void bring_in(OpenedChannel opened);
    [[nodiscard]] static bool begins(const ChannelName& name) noexcept {
        return name.role == ChannelRole::control && !name.ticket;
    }
    [[nodiscard]] bool is_free() const noexcept {
        return intake == nullptr && !arrived && !is_reserved;
    }
    void refuse(const formats::Error& error) const {
        if (options.on_refusal && !is_closed) {
            options.on_refusal(error);
        }
    }

    ReceptionOptions options;
    bool is_closed = false;
    Intake* intake = nullptr;             ///< the migration under way; it outlives its time here
    bool is_reserved = false;             ///< for the one whose hello is being answered
    std::optional<OpenedChannel> arrived; ///< the control channel of the next one
    std::deque<OpenedChannel> waiting;    ///< of `intake`, bounded by waiting_limit
    std::deque<OpenedChannel> inquiries;  ///< of no intake, bounded by inquiries_limit
    std::optional<OpenedChannel> probe;   ///< that waits for next_probe()
    bool is_probing = false;              ///< one that next_probe() has given
    std::string turns_away;               ///< why no migration is let in; empty: it is
    transport::Notification changed;
    transport::TaskGroup greetings;
};

Intake::Intake(Key, std::shared_ptr<State> state, OpenedChannel control, Ticket ticket)
    : state_{std::move(state)},
      name_{std::move(control.name)},
      ticket_{ticket},
      peer_{control.channel->peer()},
      control_{std::move(control.channel)} {
    state_->intake = this;
}

Intake::~Intake() {
    state_->intake = nullptr;
    state_->waiting.clear();
    state_->changed.notify_all();
}

void Intake::forget_waiting() {
    state_->waiting.clear();
}

Task<OpenedChannel> Intake::next_channel(ChannelRole role, Duration limit) {
    const auto until = std::chrono::steady_clock::now() + limit;
    auto& waiting = state_->waiting;
    const auto fits = [role](const OpenedChannel& channel) {
        return channel.name.role == role;
    };
    auto found = std::ranges::find_if(waiting, fits);
    while (found == waiting.end()) {
        const auto left = until - std::chrono::steady_clock::now();
        auto changed = co_await state_->changed.wait(std::max(left, Duration::zero()));
        if (!changed && changed.error().code() == ErrorCode::timed_out) {
            co_return formats::fail(
                ErrorCode::timed_out,
                fmt::format(
                    "the source has not opened its {} channel within {:g} s",
                    name_of(role),
                    std::chrono::duration<double>(limit).count()));
        }
        if (!changed) {
            co_return formats::fail(std::move(changed).error());
        }
        found = std::ranges::find_if(waiting, fits);
    }
    OpenedChannel channel = std::move(*found);
    waiting.erase(found);
    co_return channel;
}

bool Intake::State::is_about_intake(const ChannelName& name) const {
    return intake != nullptr &&
           intake->name_.migration_id ==
               formats::sanitised(name.migration_id, migration_id_limit) &&
           intake->name_.epoch == name.epoch;
}

/// Who asks needs no ticket: a process that has started again has none.
Status Intake::State::check_inquiry(const ChannelName& name) const {
    if (is_about_intake(name) && name.ticket) {
        return check_ticket(name);
    }
    if ((is_about_intake(name) ? waiting.size() : inquiries.size()) >= inquiries_limit) {
        return formats::fail(refusal("too many ask here at once"));
    }
    return {};
}

/// Whoever measures the link must not take it from a VM that is on its way.
Status Intake::State::check_probe() const {
    if (is_closed) {
        return formats::fail(refusal("no VM is awaited here any more"));
    }
    if (!turns_away.empty()) {
        return formats::fail(refusal(turns_away));
    }
    if (!is_free()) {
        return formats::fail(refusal(
            "a VM is arriving here, and the link is not to be measured meanwhile: ask again "
            "afterwards"));
    }
    if (probe || is_probing) {
        return formats::fail(
            refusal("another source is measuring its link to here: ask again in some seconds"));
    }
    return {};
}

Status Intake::State::check(const ChannelName& name) const {
    if (name.role == ChannelRole::probe) {
        return check_probe();
    }
    return name.role == ChannelRole::inquiry ? check_inquiry(name) : check_ticket(name);
}

/// The same words whatever is wrong: they tell a stranger nothing.
Status Intake::State::check_ticket(const ChannelName& name) const {
    const bool shown = name.role != ChannelRole::control && is_about_intake(name) && name.ticket &&
                       intake->ticket_.matches(*name.ticket);
    if (!shown) {
        return formats::fail(refusal(fmt::format(
            "the {} channel did not show the ticket of a migration that is under way here",
            name_of(name.role))));
    }
    if (waiting.size() >= waiting_limit) {
        return formats::fail(refusal("more channels came than a migration has"));
    }
    return {};
}

Task<void> Intake::State::wait_for_turn(const ChannelName& name) {
    const auto until = std::chrono::steady_clock::now() + options.busy_patience;
    while (!is_closed && turns_away.empty() && !is_free()) {
        const auto left = until - std::chrono::steady_clock::now();
        auto waited = co_await changed.wait(std::max(left, Duration::zero()));
        if (!waited && waited.error().code() == ErrorCode::timed_out) {
            co_return formats::fail(refusal(fmt::format(
                "a VM is arriving here already (migration {}), and there is room for one",
                intake == nullptr ? formats::sanitised(name.migration_id)
                                  : intake->name_.migration_id)));
        }
        if (!waited) {
            co_return waited;
        }
    }
    if (is_closed) {
        co_return formats::fail(refusal("no VM is awaited here any more"));
    }
    if (!turns_away.empty()) {
        co_return formats::fail(refusal(turns_away));
    }
    co_return Status{};
}

Task<ChannelName> Intake::State::hear(SessionChannel& channel) {
    const auto begun = std::chrono::steady_clock::now();
    auto name = co_await transport::within(options.hello_deadline, channel.hear_hello());
    const bool is_late = std::chrono::steady_clock::now() - begun >= options.hello_deadline;
    if (!name && name.error().code() == ErrorCode::timed_out && is_late) {
        co_return formats::fail(
            ErrorCode::timed_out,
            fmt::format("{} did not say in time what it wants", channel.peer()));
    }
    co_return name;
}

/// The name of the channel, once it may come in.
Task<ChannelName> Intake::State::admit(SessionChannel& channel) {
    auto name = co_await hear(channel);
    if (!name) {
        co_return formats::fail(std::move(name).error());
    }
    if (begins(*name)) {
        auto turn = co_await wait_for_turn(*name);
        if (!turn) {
            co_return formats::fail(std::move(turn).error());
        }
    } else {
        auto shown = check(*name);
        if (!shown) {
            co_return formats::fail(std::move(shown).error());
        }
    }
    co_return name;
}

Task<void> Intake::State::greet(std::unique_ptr<transport::ByteStream> stream) {
    auto channel = std::make_unique<SessionChannel>(
        std::move(stream), formats::Side::destination, options.silence);
    auto admitted = co_await admit(*channel);
    if (!admitted) {
        refuse(admitted.error());
        co_return co_await channel->fail(admitted.error(), longest_farewell);
    }
    const bool is_new = begins(*admitted);
    is_reserved = is_reserved || is_new;
    auto answered = co_await channel->answer_hello(*admitted);
    is_reserved = is_reserved && !is_new;
    if (answered && !is_new) {
        // The migration may have ended meanwhile.
        answered = check(*admitted);
    }
    if (!answered) {
        refuse(answered.error());
        co_return co_await channel->fail(answered.error(), longest_farewell);
    }
    bring_in({*std::move(admitted), std::move(channel)});
    co_return Status{};
}

void Intake::State::bring_in(OpenedChannel opened) {
    opened.name.migration_id = formats::sanitised(opened.name.migration_id, migration_id_limit);
    if (begins(opened.name)) {
        arrived = std::move(opened);
    } else if (opened.name.role == ChannelRole::probe) {
        probe = std::move(opened);
    } else if (opened.name.role == ChannelRole::inquiry && !is_about_intake(opened.name)) {
        inquiries.push_back(std::move(opened));
    } else {
        waiting.push_back(std::move(opened));
    }
}

Reception::Reception(const transport::Executor& executor, ReceptionOptions options)
    : state_{std::make_shared<Intake::State>(executor, std::move(options))} {}

Reception::~Reception() {
    close();
}

namespace {

/// Keeps the state alive for as long as a peer is being greeted.
Task<void>
greet_one(std::shared_ptr<Intake::State> state, std::unique_ptr<transport::ByteStream> stream) {
    auto greeted = co_await state->greet(std::move(stream));
    state->changed.notify_all();
    // What became of a peer concerns nobody but that peer, and on_refusal has heard.
    (void)greeted;
    co_return Status{};
}

} // namespace

void Reception::greet(std::unique_ptr<transport::ByteStream> stream) {
    if (state_->is_closed || state_->greetings.running() >= state_->options.greeting_limit) {
        stream->close();
        return;
    }
    state_->greetings.start(greet_one(state_, std::move(stream)));
}

Task<void> Reception::serve(transport::Listener& listener) {
    auto state = state_;
    while (!state->is_closed) {
        if (state->greetings.running() >= state->options.greeting_limit) {
            auto waited = co_await transport::pause_for(std::chrono::milliseconds{20});
            if (!waited) {
                co_return waited;
            }
            continue;
        }
        auto accepted = co_await listener.accept();
        if (!accepted) {
            const bool over = state->is_closed || accepted.error().code() == ErrorCode::wrong_state;
            co_return over ? Status{} : Status{formats::fail(std::move(accepted).error())};
        }
        if (!accepted->stream) {
            state->refuse(
                std::move(accepted->stream).error().during("a peer at " + accepted->peer));
            continue;
        }
        auto greeting = greet_one(state, *std::move(accepted->stream));
        state->greetings.start(std::move(greeting));
    }
    co_return Status{};
}

Task<std::unique_ptr<Intake>> Reception::next_migration() {
    auto state = state_;
    while (!state->arrived || state->intake != nullptr) {
        if (state->is_closed) {
            co_return formats::fail(ErrorCode::wrong_state, "the reception is closed");
        }
        auto changed = co_await state->changed.wait();
        if (!changed) {
            co_return formats::fail(std::move(changed).error());
        }
    }
    auto ticket = Ticket::issue();
    if (!ticket) {
        co_return formats::fail(std::move(ticket).error());
    }
    auto control = *std::exchange(state->arrived, std::nullopt);
    co_return std::make_unique<Intake>(Intake::Key{}, state, std::move(control), *ticket);
}

Task<OpenedChannel> Reception::next_inquiry() {
    auto state = state_;
    while (state->inquiries.empty()) {
        if (state->is_closed) {
            co_return formats::fail(ErrorCode::wrong_state, "the reception is closed");
        }
        auto changed = co_await state->changed.wait();
        if (!changed) {
            co_return formats::fail(std::move(changed).error());
        }
    }
    OpenedChannel inquiry = std::move(state->inquiries.front());
    state->inquiries.pop_front();
    co_return inquiry;
}

Task<OpenedChannel> Reception::next_probe() {
    auto state = state_;
    state->is_probing = false;
    while (!state->probe) {
        if (state->is_closed) {
            co_return formats::fail(ErrorCode::wrong_state, "the reception is closed");
        }
        auto changed = co_await state->changed.wait();
        if (!changed) {
            co_return formats::fail(std::move(changed).error());
        }
    }
    state->is_probing = true;
    co_return *std::exchange(state->probe, std::nullopt);
}

Task<void> Reception::migration_is_here() {
    auto state = state_;
    while (!state->is_closed && state->is_free()) {
        auto changed = co_await state->changed.wait();
        if (!changed) {
            co_return changed;
        }
    }
    co_return Status{};
}

void Reception::turn_away(std::string why) {
    state_->turns_away = std::move(why);
    state_->arrived.reset();
    state_->probe.reset();
    state_->changed.notify_all();
}

void Reception::close() {
    if (std::exchange(state_->is_closed, true)) {
        return;
    }
    state_->greetings.cancel();
    state_->arrived.reset();
    state_->inquiries.clear();
    state_->probe.reset();
    state_->changed.notify_all();
}

} // namespace wherry::migrate
