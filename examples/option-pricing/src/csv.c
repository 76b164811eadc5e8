#include "csv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char HEADER[] = "date,open,high,low,close,volume,adjusted_close";
enum { COLUMNS = 7, OPEN = 1, CLOSE = 4, VOLUME = 5, ADJUSTED = 6, LINE = 256 };

static int fail(const char *path, long line, const char *reason) {
    fprintf(stderr, "error: %s: line %ld: %s\n", path, line, reason);
    return -1;
}

static int is_date(const char *text) {
    for (int i = 0; i < 10; i++) {
        int dash = i == 4 || i == 7;
        if (dash ? text[i] != '-' : text[i] < '0' || text[i] > '9') return 0;
    }
    return text[10] == '\0';
}

// A plain decimal number: no sign, space, exponent, hex, nan or inf.
static int is_number(const char *text, double *value) {
    if (text[0] < '0' || text[0] > '9' || strspn(text, "0123456789.") != strlen(text)) return 0;
    char *end;
    *value = strtod(text, &end);
    return *end == '\0' && isfinite(*value);
}

static int split(char *line, char *fields[COLUMNS]) {
    int count = 0;
    for (char *field = line; field; count++) {
        char *comma = strchr(field, ',');
        if (comma) *comma = '\0';
        if (count < COLUMNS) fields[count] = field;
        field = comma ? comma + 1 : NULL;
    }
    return count;
}

static const char *check_row(char *line, const char *previous_date, char *fields[COLUMNS], double values[COLUMNS]) {
    if (split(line, fields) != COLUMNS) return "expected 7 fields";
    if (!is_date(fields[0])) return "the date is not like 2013-03-01";
    if (strcmp(fields[0], previous_date) <= 0) return "the date does not come after the one before";
    for (int i = OPEN; i < COLUMNS; i++) {
        if (!is_number(fields[i], &values[i])) return "a price or volume is not a plain number";
        if (i != VOLUME && values[i] <= 0) return "a price is not above zero";
    }
    return NULL;
}

// Reads a line without its end into `line`. Returns 1, 0 at the end of the file, -1 if it is too long or holds a zero byte.
static int next_line(FILE *file, char line[LINE]) {
    int length = 0, c;
    while ((c = getc(file)) != EOF && c != '\n') {
        if (c == '\0' || length == LINE - 1) return -1;
        line[length++] = (char)c;
    }
    line[length] = '\0';
    return length > 0 || c == '\n';
}

static int read_rows(FILE *file, const char *path, struct market *market) {
    char line[LINE];
    if (next_line(file, line) != 1 || strcmp(line, HEADER) != 0) {
        return fail(path, 1, "expected the header date,open,high,low,close,volume,adjusted_close");
    }
    static double ring[CLOSES];
    long rows = 0;
    int more;
    market->last_date[0] = '\0';
    while ((more = next_line(file, line)) == 1) {
        char *fields[COLUMNS];
        double values[COLUMNS];
        const char *reason = check_row(line, market->last_date, fields, values);
        if (reason) return fail(path, rows + 2, reason);
        memcpy(market->last_date, fields[0], sizeof market->last_date);
        market->spot = values[CLOSE];
        ring[rows++ % CLOSES] = values[ADJUSTED];
    }
    if (more < 0) return fail(path, rows + 2, "the line is too long or not text");
    if (ferror(file)) return fail(path, rows + 2, "the file cannot be read");
    if (rows < CLOSES) return fail(path, rows + 1, "the file ends too early: at least 253 days are needed");
    for (int i = 0; i < CLOSES; i++) market->closes[i] = ring[(rows + i) % CLOSES];
    return 0;
}

int read_market(const char *path, struct market *market) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "error: %s: the dataset cannot be opened\n", path);
        return -1;
    }
    int result = read_rows(file, path, market);
    fclose(file);
    return result;
}
