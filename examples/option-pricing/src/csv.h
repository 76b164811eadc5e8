// The dataset: daily prices, oldest first.
#ifndef CSV_H
#define CSV_H

enum { RETURNS = 252, CLOSES = RETURNS + 1 };

struct market {
    char last_date[11];       // the day of the spot price
    double spot;              // last close, US dollars
    double closes[CLOSES];    // the last 253 adjusted closes, oldest first
};

// Reads and checks the whole file. Returns 0, or -1 after naming file, line and reason on stderr.
int read_market(const char *path, struct market *market);

#endif
