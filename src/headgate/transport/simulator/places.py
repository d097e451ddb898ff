"""Well-known cities and countries, so that `weather in paris` and `北京天气` are understood."""

from __future__ import annotations

import re

_EN = (
    "New York City|New York|Los Angeles|San Francisco|San Diego|San Jose|Las Vegas|Washington D.C.|"
    "Washington|Mexico City|Hong Kong|New Delhi|Kuala Lumpur|Buenos Aires|Rio de Janeiro|Sao Paulo|"
    "São Paulo|Cape Town|Tel Aviv|Abu Dhabi|Saint Petersburg|Ho Chi Minh City|Paris|London|Tokyo|Berlin|"
    "Madrid|Rome|Beijing|Shanghai|Shenzhen|Guangzhou|Hangzhou|Chengdu|Nanjing|Wuhan|Suzhou|Taipei|"
    "Singapore|Seoul|Osaka|Kyoto|Sydney|Melbourne|Brisbane|Perth|Auckland|Toronto|Vancouver|Montreal|"
    "Ottawa|Chicago|Boston|Seattle|Houston|Dallas|Austin|Denver|Atlanta|Miami|Phoenix|Philadelphia|"
    "Portland|Detroit|Amsterdam|Brussels|Vienna|Zurich|Geneva|Munich|Hamburg|Frankfurt|Milan|Venice|"
    "Florence|Naples|Barcelona|Lisbon|Porto|Dublin|Edinburgh|Manchester|Glasgow|Oslo|Stockholm|"
    "Copenhagen|Helsinki|Warsaw|Prague|Budapest|Athens|Istanbul|Moscow|Kyiv|Dubai|Cairo|Nairobi|Lagos|"
    "Johannesburg|Mumbai|Delhi|Bangalore|Kolkata|Karachi|Dhaka|Bangkok|Hanoi|Jakarta|Manila|Lima|Bogota|"
    "Santiago|Havana|Tehran|Baghdad|Riyadh|Doha|Jerusalem|Lyon|Marseille|Nice|Reykjavik"
)
_ZH = (
    "北京|上海|广州|深圳|杭州|成都|重庆|武汉|南京|西安|天津|苏州|长沙|郑州|青岛|大连|厦门|宁波|无锡|合肥|"
    "福州|济南|昆明|沈阳|哈尔滨|长春|石家庄|太原|南昌|南宁|贵阳|海口|三亚|兰州|银川|西宁|乌鲁木齐|拉萨|"
    "呼和浩特|东莞|佛山|珠海|温州|常州|徐州|洛阳|桂林|丽江|大理|香港|澳门|台北|高雄|东京|大阪|京都|首尔|"
    "曼谷|新加坡|吉隆坡|伦敦|巴黎|柏林|罗马|马德里|莫斯科|纽约|洛杉矶|旧金山|华盛顿|芝加哥|西雅图|波士顿|"
    "悉尼|墨尔本|多伦多|温哥华|迪拜"
)
# "Nice" is a word far more often than a place, so it counts only with its capital.
CITIES_EN = re.compile(
    rf"\b(?:{_EN})\b|\b(?:{_EN.lower().removesuffix('|nice|reykjavik').replace('.', '[.]')})\b"
)
CITIES_ZH = re.compile(_ZH)
