// What the corpus's filters measure of a text that is ASCII, in one pass each: lines, lines that begin with a literal,
// letters, and runs of encoded data. Twins: megatron_snow/corpus/signals.py, whose regular expressions say what is meant
// and which measures all other texts.
#include <algorithm>
#include <array>
#include <string_view>
#include <tuple>

#include "bindings.hpp"

namespace snow {
namespace {

enum : unsigned char { kSpace = 1, kHex = 2, kDigit = 4, kLetter = 8, kWord = 16, kBase64 = 32, kOpens = 64 };

constexpr auto kClass = [] {
    std::array<unsigned char, 256> table{};
    const auto mark = [&](std::string_view bytes, unsigned char as) {
        for (const char byte : bytes) table[static_cast<unsigned char>(byte)] = static_cast<unsigned char>(table[static_cast<unsigned char>(byte)] | as);
    };
    mark("\t\n\v\f\r\x1c\x1d\x1e\x1f ", kSpace);  // as Python's \s has it
    mark("0123456789", kHex | kDigit | kWord | kBase64);
    mark("abcdefABCDEF", kHex);
    mark("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", kLetter | kWord | kBase64);
    mark("_", kWord);
    mark("+/\n=", kBase64);
    mark("\"'[](){},;", kOpens);
    return table;
}();

constexpr std::size_t kLeastBase64 = 64, kLeastGroups = 8;  // StarCoder2's expressions

struct Runs {
    std::size_t longest = 0, total = 0;
    void add(std::size_t length) {
        longest = std::max(longest, length);
        total += length;
    }
};

class Text {
  public:
    explicit Text(std::string_view text) : text_(text) {}

    // (lines, bytes without line ends, longest)
    std::tuple<std::size_t, std::size_t, std::size_t> lines() const {
        std::size_t count = 0, total = 0, longest = 0;
        each_line([&](std::string_view line, bool last) {
            if (last && line.empty()) return;
            const std::size_t length = line.size() - (!line.empty() && line.back() == '\r');
            ++count, total += length, longest = std::max(longest, length);
        });
        return {count, total, longest};
    }

    // (lines that are not blank, those that begin with a literal or a bracket)
    std::pair<std::size_t, std::size_t> literal_lines() const {
        std::size_t filled = 0, literal = 0;
        each_line([&](std::string_view line, bool) {
            std::size_t at = 0;
            while (at < line.size() && (line[at] == ' ' || line[at] == '\t')) ++at;
            if (at == line.size()) return;
            literal += opens(line.substr(at));
            filled += std::any_of(line.begin() + static_cast<std::ptrdiff_t>(at), line.end(), [](char byte) { return !is(byte, kSpace); });
        });
        return {filled, literal};
    }

    std::size_t letters(bool digits) const {
        const unsigned char wanted = digits ? kLetter | kDigit : kLetter;
        return static_cast<std::size_t>(std::count_if(text_.begin(), text_.end(), [&](char byte) { return is(byte, wanted); }));
    }

    Runs encoded() const {
        Runs runs;
        base64(runs);
        hexadecimal(runs);
        escapes(runs);
        return runs;
    }

  private:
    static bool is(char byte, unsigned char as) { return kClass[static_cast<unsigned char>(byte)] & as; }
    bool at(std::size_t place, unsigned char as) const { return place < text_.size() && is(text_[place], as); }
    bool at(std::size_t place, char byte) const { return place < text_.size() && text_[place] == byte; }
    bool boundary(std::size_t place) const { return (place > 0 && is(text_[place - 1], kWord)) != at(place, kWord); }

    template <typename Take>
    void each_line(Take take) const {
        for (std::size_t start = 0;;) {
            const std::size_t end = text_.find('\n', start);
            take(text_.substr(start, end - start), end == text_.npos);
            if (end == text_.npos) return;
            start = end + 1;
        }
    }

    // ["'\[\](){},;] | [-+.]?\d | [uUbBrR]["']
    static bool opens(std::string_view line) {
        const char first = line[0], second = line.size() > 1 ? line[1] : '\0';
        if (is(first, kOpens | kDigit)) return true;
        if (first == '-' || first == '+' || first == '.') return is(second, kDigit);
        return std::string_view("uUbBrR").find(first) != std::string_view::npos && (second == '"' || second == '\'');
    }

    // [a-zA-Z0-9+/\n=]{64,}
    void base64(Runs& runs) const {
        for (std::size_t i = 0; i < text_.size(); ++i) {
            const std::size_t start = i;
            while (at(i, kBase64)) ++i;
            if (i - start >= kLeastBase64) runs.add(i - start);
        }
    }

    // (?:\b(?:0x|\\x)?[0-9a-fA-F]{2}(?:,|\b\s*)){8,}: no choice in it can be made otherwise and match more, so nothing is tried twice
    void hexadecimal(Runs& runs) const {
        for (std::size_t start = 0; start < text_.size();) {
            std::size_t end = start, groups = 0;
            while (const std::size_t next = hex_group(end)) end = next, ++groups;
            if (groups >= kLeastGroups) {
                runs.add(end - start);
                start = end;
            } else {
                ++start;
            }
        }
    }

    // Behind the group that begins at a place, 0 where none does.
    std::size_t hex_group(std::size_t place) const {
        if (!at(place, kHex) && !at(place, '\\')) return 0;
        if (!boundary(place)) return 0;
        if ((at(place, '0') || at(place, '\\')) && at(place + 1, 'x')) place += 2;
        if (!at(place, kHex) || !at(place + 1, kHex)) return 0;
        place += 2;
        if (at(place, ',')) return place + 1;
        if (!boundary(place)) return 0;
        while (at(place, kSpace)) ++place;
        return place;
    }

    // (?:\\u[0-9a-fA-F]{4}){8,}
    void escapes(Runs& runs) const {
        for (std::size_t start = text_.find("\\u"); start != text_.npos; start = text_.find("\\u", start)) {
            std::size_t end = start;
            while (at(end, '\\') && at(end + 1, 'u') && at(end + 2, kHex) && at(end + 3, kHex) && at(end + 4, kHex) && at(end + 5, kHex)) end += 6;
            if (end - start >= 6 * kLeastGroups) runs.add(end - start);
            start = std::max(end, start + 1);
        }
    }

    std::string_view text_;
};

}  // namespace

void bind_signals(py::module_& module) {
    module.def(
        "measure_ascii",
        [](const py::bytes& bytes, bool digits) {
            const Text text{std::string_view(bytes)};
            const auto [count, total, longest] = text.lines();
            const auto [filled, literal] = text.literal_lines();
            const Runs runs = text.encoded();
            return std::make_tuple(count, total, longest, filled, literal, text.letters(digits), runs.longest, runs.total);
        },
        py::arg("text"), py::arg("digits"),
        "(lines, characters in them, longest, lines not blank, those that begin with a literal, letters, longest run of encoded data, all of them) of an ASCII text.");
}

}  // namespace snow
